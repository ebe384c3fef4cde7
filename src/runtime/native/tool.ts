// One run of a host-side tool: its streams with credit both ways (guest/PROTOCOL.md, Spawner). Does not know what a tool does.
// Invariant: at most STREAM_WINDOW_BYTES of stdout wait here, at most STDIN_WINDOW_BYTES of stdin are under way; `done` rejects
// whenever the tool did not end with status 0, whatever was read of it.

import { CorralError } from "../../api/errors.ts";
import { STDIN_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "../../api/limits.ts";
import type { ToolRun } from "../../view/view.ts";
import { type Frame, SPAWNER } from "./frames.ts";

export interface ToolChannel {
  send(type: number, payload?: Uint8Array): void;
  credit(bytes: number): void;
  /** No frame of this run is expected any more. */
  forget(): void;
}

/** Receives what comes of one run. */
export interface ToolSink {
  frame(frame: Frame): void;
  /** The spawner is gone. */
  lost(error: CorralError): void;
}

/** Credit is given back in pieces of this size, so that small reads cost no frame each. */
const CREDIT_BYTES = STREAM_WINDOW_BYTES / 4;
/** Bytes of one TOOL_IN. */
const PIECE_BYTES = 64 * 1024;

export function runTool(
  words: readonly string[],
  channel: ToolChannel,
  input?: AsyncIterable<Uint8Array>,
): { run: ToolRun; sink: ToolSink } {
  const stdout = new Chunks((bytes) => channel.credit(bytes));
  const stdin = new Credit(STDIN_WINDOW_BYTES);
  const done = Promise.withResolvers<void>();
  // Whoever awaits `done` sees the rejection; who reads stdout alone must not bring the process down by it.
  done.promise.catch(() => undefined);
  let ended = false;
  const end = (error?: CorralError): void => {
    if (ended) return;
    ended = true;
    channel.forget();
    stdin.end();
    stdout.end();
    if (error === undefined) done.resolve();
    else done.reject(error);
  };
  const frame = (came: Frame): void => {
    const { type, buffer, start, end: finish } = came;
    if (type === SPAWNER.toolOut) stdout.add(buffer.subarray(start, finish));
    else if (type === SPAWNER.toolCredit && finish - start === 4) stdin.add(buffer.readUInt32LE(start));
    else if (type === SPAWNER.toolEnd && finish - start >= 8) end(failure(words, came));
    else if (type === SPAWNER.error)
      end(new CorralError("overloaded", `${words[0] ?? "a tool"} could not be started: ${buffer.toString("utf8", start + 8, finish - 1)}`));
    else end(new CorralError("guest_protocol", `the spawner sent a frame of type ${type} for a tool`));
  };
  const kill = (): void => {
    if (!ended) channel.send(SPAWNER.toolKill);
  };
  feed(channel, stdin, input).catch((cause: unknown) => {
    kill();
    end(new CorralError("canceled", `the input of ${words[0] ?? "a tool"} failed; it was ended`, { cause }));
  });
  return { run: { stdout, done: done.promise, kill }, sink: { frame, lost: end } };
}

async function feed(channel: ToolChannel, credit: Credit, input: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  for await (const chunk of input ?? []) {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      const piece = chunk.subarray(at, at + PIECE_BYTES);
      if (!(await credit.take(piece.length))) return;
      channel.send(SPAWNER.toolIn, piece);
    }
  }
  if (!credit.ended) channel.send(SPAWNER.toolEof);
}

function failure(words: readonly string[], { buffer, start, end }: Frame): CorralError | undefined {
  const code = buffer.readInt32LE(start);
  const signal = buffer.readInt32LE(start + 4);
  if (code === 0 && signal === 0) return undefined;
  const message = buffer.toString("utf8", start + 8, end).trim();
  const how = signal === 0 ? `exit status ${code}` : `signal ${signal}`;
  return new CorralError("internal", message === "" ? `${words[0] ?? "a tool"} failed: ${how}` : message, {
    details: { tool: words[0], code, signal },
  });
}

/** Bytes that may still be sent. */
export class Credit {
  #left: number;
  #wake: (() => void) | undefined;
  ended = false;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  add(bytes: number): void {
    this.#left += bytes;
    this.#wake?.();
  }

  /** Wakes who waits, with `false`. */
  end(): void {
    this.ended = true;
    this.#wake?.();
  }

  /** For one taker at a time. False: ended. */
  async take(bytes: number): Promise<boolean> {
    while (!this.ended && this.#left < bytes) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    this.#wake = undefined;
    if (this.ended) return false;
    this.#left -= bytes;
    return true;
  }
}

/** Output that came and was not read yet; bounded by the window, since credit follows reading. */
class Chunks implements AsyncIterable<Uint8Array> {
  readonly #credit: (bytes: number) => void;
  #list: Uint8Array[] = [];
  #ended = false;
  #owed = 0;
  #wake: (() => void) | undefined;

  constructor(credit: (bytes: number) => void) {
    this.#credit = credit;
  }

  add(chunk: Uint8Array): void {
    this.#list.push(Uint8Array.prototype.slice.call(chunk));
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunks = this.#list;
      this.#list = [];
      for (const chunk of chunks) {
        yield chunk;
        this.#owed += chunk.length;
        if (this.#owed >= CREDIT_BYTES && !this.#ended) {
          this.#credit(this.#owed);
          this.#owed = 0;
        }
      }
      if (this.#list.length > 0) continue;
      if (this.#ended) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }
}
