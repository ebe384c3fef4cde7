// This process's own stdin, stdout and stderr as sources and sinks of a command: back-pressure, broken pipes, terminals.
// Not a pty: pty.ts is. Invariant: bytes to a pipe or file pass unchanged; bytes to a terminal pass the filter.

import { TerminalFilter } from "./terminal-filter.ts";

export interface Sink {
  /** Awaited by the sandbox: a slow reader of ours slows the program. */
  readonly write: (chunk: Uint8Array) => void | Promise<void>;
  /** Ends the program's part: what a filter holds back is let go, then `text` follows on a line of its own. */
  readonly finish: (text?: string) => Promise<void>;
}

export interface SinkOptions {
  /** The reader of this stream is gone (EPIPE), or the disk behind it is full. Called once. */
  readonly onBroken: (error: NodeJS.ErrnoException) => void;
}

export function sinkOf(stream: NodeJS.WriteStream, options: SinkOptions): Sink {
  const filter = stream.isTTY ? new TerminalFilter("strict") : undefined;
  let broken = false;
  let lastByte = 0x0a;
  let wake: () => void = () => undefined;
  stream.on("drain", () => wake());
  stream.on("error", (error: NodeJS.ErrnoException) => {
    wake();
    if (broken) return;
    broken = true;
    options.onBroken(error);
  });
  const put = (chunk: Uint8Array): void | Promise<void> => {
    if (broken || chunk.length === 0) return;
    lastByte = chunk.at(-1) ?? lastByte;
    if (stream.write(chunk)) return;
    return new Promise((resolve) => {
      wake = resolve;
      if (broken) resolve();
    });
  };
  return {
    write: (chunk) => put(filter === undefined ? chunk : filter.feed(chunk)),
    finish: async (text) => {
      if (filter !== undefined) await put(filter.end());
      if (text !== undefined) await put(Buffer.from(`${lastByte === 0x0a ? "" : "\n"}${text}\n`));
      if (!broken) await flushed(stream);
    },
  };
}

/** Resolves when all that was written has left this process, or can no longer leave. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.once("error", () => resolve());
    stream.write("", () => resolve());
  });
}

/** Prints data of a command that runs no program, and waits until it is out. A reader that went away is no failure. */
export async function print(text: string | Uint8Array): Promise<void> {
  const { stdout } = process;
  await new Promise<void>((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => (error.code === "EPIPE" ? resolve() : reject(error));
    stdout.once("error", onError);
    // A write that failed calls back before its error is told: the listener must still be there then.
    stdout.write(text, (error) => {
      if (error) return;
      stdout.off("error", onError);
      resolve();
    });
  });
}

/**
 * Bytes of a readable stream, read only as they are asked for; `return` lets go at once and leaves the stream usable,
 * so that a prompt can read the same terminal afterwards.
 */
export function source(stream: NodeJS.ReadStream): AsyncIterableIterator<Uint8Array> {
  let waiting: PromiseWithResolvers<IteratorResult<Uint8Array>> | undefined;
  const held: Uint8Array[] = [];
  let over = false;
  const settle = (): void => {
    const chunk = held.shift();
    if (chunk !== undefined) waiting?.resolve({ done: false, value: chunk });
    else if (over) waiting?.resolve({ done: true, value: undefined });
    else return;
    waiting = undefined;
  };
  const onData = (chunk: Uint8Array): void => {
    held.push(chunk);
    stream.pause();
    if (waiting !== undefined) settle();
  };
  const close = (): void => {
    over = true;
    stream.off("data", onData).off("end", close).off("error", close).off("close", close);
    stream.pause();
    if (waiting !== undefined) settle();
  };
  stream.on("end", close).on("error", close).on("close", close);
  stream.on("data", onData);
  stream.pause();
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next() {
      waiting = Promise.withResolvers();
      const { promise } = waiting;
      if (held.length > 0 || over) settle();
      else stream.resume();
      return promise;
    },
    return() {
      close();
      return Promise.resolve({ done: true, value: undefined });
    },
  };
}
