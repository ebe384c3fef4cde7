// Streams of bytes as HTTP answers. Invariant: what fails before the first byte is thrown, and answered as
// every error is; what fails later cuts the connection; a reader that goes away ends the source; a slow one slows it.

import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { CorralError } from "../api/errors.ts";

export async function sendBytes(reply: FastifyReply, source: AsyncIterable<Uint8Array>, type = "application/octet-stream"): Promise<void> {
  const chunks = source[Symbol.asyncIterator]();
  const first = await chunks.next();
  const bytes = Readable.from(from(first, chunks), { objectMode: false });
  void reply.headers({ "content-type": type, "x-content-type-options": "nosniff" }).send(bytes);
}

async function* from(first: IteratorResult<Uint8Array>, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    for (let next = first; next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** A source whose end is asked for even when nobody began to read it. `length`: bytes that it must give; fewer cut the answer, more are left. */
export function readable(source: AsyncIterable<Uint8Array>, length: number | undefined): Readable {
  const chunks = source[Symbol.asyncIterator]();
  let left = length ?? Infinity;
  const give = async (stream: Readable): Promise<void> => {
    const next = left === 0 ? undefined : await chunks.next();
    if (next === undefined || next.done === true) {
      if (left > 0 && left !== Infinity) throw new CorralError("stream_cut", "the file became shorter while it was read");
      stream.push(null);
      return;
    }
    const part = next.value.subarray(0, left);
    left -= part.length;
    stream.push(part);
  };
  return new Readable({
    read() {
      give(this).catch((error: unknown) => this.destroy(error as Error));
    },
    destroy(error, done) {
      leave(chunks);
      done(error);
    },
  });
}

/** Not awaited: who has gone waits for nothing. */
function leave(chunks: AsyncIterator<Uint8Array>): void {
  chunks.return?.().catch(() => undefined);
}
