// A stream read piece by piece, with what was read and not used yet; and writing that waits for a slow reader.
// Invariant: while nobody asks for more, nothing more is read than the stream itself holds.

import type { Duplex } from "node:stream";

export class Intake {
  readonly stream: Duplex;
  /** Read and not used. */
  bytes: Buffer = Buffer.alloc(0);
  #isOver = false;
  #wake: (() => void) | undefined;
  #watcher: (() => void) | undefined;
  readonly #onData = (chunk: Buffer): void => {
    this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk]);
    this.stream.pause();
    this.#wake?.();
  };
  readonly #onOver = (): void => {
    this.#isOver = true;
    this.#wake?.();
    this.#watcher?.();
  };

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("data", this.#onData).pause();
    stream.on("end", this.#onOver).on("close", this.#onOver);
  }

  /** Waits for more bytes; false when none will come. */
  async more(): Promise<boolean> {
    const had = this.bytes.length;
    while (this.bytes.length === had && !this.#isOver && !this.stream.destroyed) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      this.stream.resume();
      await promise;
    }
    return this.bytes.length > had;
  }

  /** Looks for the end while nobody waits for bytes; reads one piece ahead at most. */
  watch(onEnd: () => void): void {
    this.#watcher = onEnd;
    if (this.isOver) onEnd();
    else this.stream.resume();
  }

  /** Takes the first `count` bytes. */
  take(count: number): Buffer {
    const taken = this.bytes.subarray(0, count);
    this.bytes = this.bytes.subarray(count);
    return taken;
  }

  get isOver(): boolean {
    return this.#isOver || this.stream.destroyed;
  }

  /** Lets go of the stream, which stands still, and gives what is unused. */
  release(): Buffer {
    this.stream.off("data", this.#onData).off("end", this.#onOver).off("close", this.#onOver);
    this.stream.pause();
    return this.take(this.bytes.length);
  }
}

/** Writes, and waits while the other side is slow. False when it is gone. */
export async function send(stream: Duplex, bytes: Buffer): Promise<boolean> {
  if (stream.destroyed || !stream.writable) return false;
  if (stream.write(bytes)) return true;
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.once("drain", resolve).once("close", resolve);
  await promise;
  stream.off("drain", resolve).off("close", resolve);
  return !stream.destroyed;
}
