// A stream of bytes as an HTTP answer. Invariant: what fails before the first byte is thrown, and answered as every error is; what fails
// later cuts the connection; a reader that goes away ends the source; a slow one slows it.

import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";

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
