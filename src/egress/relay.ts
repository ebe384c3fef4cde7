// Bytes both ways between two sockets, unread, each end's half-close kept. Decides nothing.
// Invariant: a slow reader or an empty bucket stops the reading of the other side; nothing piles up.

import type { Duplex } from "node:stream";
import { DirectSocket } from "./direct-socket.ts";

export interface RelayHooks {
  /** Bytes passed; answers how long to wait, ms. */
  readonly moved: (direction: "sent" | "received", bytes: number) => number;
  /** Looks at what the sandbox sends before it goes out; `undefined` ends both. */
  readonly guard?: (bytes: Buffer) => Buffer | undefined;
  /** The same for what comes back. */
  readonly answerGuard?: (bytes: Buffer) => Buffer | undefined;
}

/** Resolves when both ends are closed. `first`: what was read of the inside already. */
export async function relay(inside: Duplex, outside: Duplex, hooks: RelayHooks): Promise<void> {
  const closed = [inside, outside].map((end, index) => {
    const other = index === 0 ? outside : inside;
    return new Promise<void>((resolve) => {
      const onClose = (): void => {
        // An end that broke takes the other one with it; one that was done has said so by `end`.
        if (!end.readableEnded || !end.writableFinished) other.destroy();
        resolve();
      };
      if (end.destroyed) onClose();
      else end.once("close", onClose);
    });
  });
  carry(inside, outside, { moved: (bytes) => hooks.moved("sent", bytes), ...(hooks.guard === undefined ? {} : { guard: hooks.guard }) });
  carry(outside, inside, {
    moved: (bytes) => hooks.moved("received", bytes),
    ...(hooks.answerGuard === undefined ? {} : { guard: hooks.answerGuard }),
  });
  await Promise.all(closed);
}

interface OneWay {
  readonly moved: (bytes: number) => number;
  readonly guard?: (bytes: Buffer) => Buffer | undefined;
}

function carry(from: Duplex, to: Duplex, { moved, guard }: OneWay): void {
  let waits = 0;
  let isFull = false;
  const hold = (): void => {
    waits += 1;
    from.pause();
  };
  const goOn = (): void => {
    waits -= 1;
    if (waits === 0) from.resume();
  };
  const onWritten = (): void => {
    if (!isFull || to.writableLength > 0) return;
    isFull = false;
    goOn();
  };
  const take = (chunk: Buffer): boolean => {
    const bytes = guard === undefined ? chunk : guard(chunk);
    if (bytes === undefined) {
      from.destroy();
      to.destroy();
      return false;
    }
    const wait = moved(chunk.length);
    if (!to.destroyed && bytes.length > 0) {
      to.write(bytes, onWritten);
      // SAFETY: what the kernel did not take at once still lies where the next piece would be read to.
      if (to.writableLength > 0 && !isFull) {
        isFull = true;
        hold();
      }
    }
    if (wait > 0) {
      hold();
      setTimeout(goOn, wait);
    }
    return waits === 0;
  };
  if (from instanceof DirectSocket) from.direct(take);
  else from.on("data", take);
  from.once("end", () => to.end());
  if (from.readableEnded) to.end();
  if (waits === 0) from.resume();
}
