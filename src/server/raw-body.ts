// Bodies of requests that are bytes: taken as they come, and cut into the contents of an upload. Not how a body of JSON is read.
// Invariant: what is held of a body is a chunk or two, whatever it says of its lengths; a body that is refused is read to its end, so that
// its sender gets to read the answer.

import type { FastifyInstance } from "fastify";
import type { IncomingMessage } from "node:http";
import { PassThrough, pipeline } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { UPLOAD_FRAME } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";
import { FILE_CHUNK_BYTES } from "../api/limits.ts";
import type { IncomingContent } from "../service/uploads.ts";

const TYPES = ["application/octet-stream", "application/x-tar", "application/gzip", "application/zstd"];
/** What is read of a body that was refused, before its connection is cut instead. */
const MAX_DROPPED_BYTES = 64 * 1024 ** 2;

/** In this scope a body of these types, or with `*` of any, is the handler's to read, from `request.raw`. */
export function takeRawBodies(app: FastifyInstance, types: readonly string[] = TYPES): void {
  if (types.includes("*")) app.removeAllContentTypeParsers();
  for (const type of types) app.addContentTypeParser(type, (_request, _payload, done) => done(null));
  app.addHook("onSend", (request, reply, _payload, done) => {
    if (reply.statusCode >= 400 && !request.raw.readableEnded) drop(request.raw);
    done();
  });
}

function drop(body: IncomingMessage): void {
  let bytes = 0;
  body.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_DROPPED_BYTES) body.destroy();
  });
  body.resume();
}

/** The body as it comes, at most `most` bytes. Whoever stops reading it early leaves the connection to the answer. */
export async function* incomingBytes(request: IncomingMessage, most: number): AsyncGenerator<Uint8Array, void, void> {
  const large = new CorralError("request_too_large", `the body is larger than ${most} bytes`);
  if (Number(request.headers["content-length"] ?? 0) > most) throw large;
  let taken = 0;
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      taken += (chunk as Buffer).length;
      if (taken > most) throw large;
      yield chunk as Buffer;
    }
  } catch (cause) {
    if (cause instanceof CorralError) throw cause;
    throw new CorralError("stream_cut", "the connection ended before the body was whole", { cause });
  }
}

/** The same, where it is small and says so all at once: a stream of one chunk costs more than its chunk. */
export async function incomingFile(request: IncomingMessage, most: number): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  const length = Number(request.headers["content-length"] ?? Number.NaN);
  if (!(length <= FILE_CHUNK_BYTES)) return incomingBytes(request, most);
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const parts: Buffer[] = [];
  const cutOff = (): void => {
    if (!request.readableEnded) reject(new CorralError("stream_cut", "the connection ended before the body was whole"));
  };
  request
    .on("data", (part: Buffer) => parts.push(part))
    .on("end", () => resolve(parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)))
    .on("error", cutOff)
    .on("close", cutOff);
  return await promise;
}

/** The contents of an upload, each to be read before the next is asked for. */
export async function* incomingContents(request: IncomingMessage): AsyncGenerator<IncomingContent> {
  const source = new Pieces(decoded(request));
  try {
    for (;;) {
      const head = await source.take(UPLOAD_FRAME.hashBytes + UPLOAD_FRAME.lengthBytes);
      if (head === undefined) return;
      const length = head.readBigUInt64BE(UPLOAD_FRAME.hashBytes);
      if (length > BigInt(Number.MAX_SAFE_INTEGER))
        throw new CorralError("request_invalid", "a content says that it has more bytes than can be");
      const size = Number(length);
      yield { hash: head.toString("hex", 0, UPLOAD_FRAME.hashBytes), size, content: source.next(size) };
      await source.skip();
    }
  } finally {
    await source.close();
  }
}

function decoded(request: IncomingMessage): AsyncIterable<Buffer> {
  const encoding = request.headers["content-encoding"] ?? "identity";
  if (encoding === "identity") return request;
  const decoder = encoding === "gzip" ? createGunzip() : encoding === "zstd" ? createZstdDecompress() : undefined;
  if (decoder === undefined)
    throw new CorralError("request_invalid", `a body in ${JSON.stringify(encoding)} cannot be read; send gzip, zstd, or plain`);
  return pipeline(request, decoder, new PassThrough(), () => undefined);
}

class Pieces {
  readonly #iterator: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  /** Of the content at hand. */
  #left = 0;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** `undefined`: the body ended before the first of them. */
  async take(bytes: number): Promise<Buffer | undefined> {
    while (this.#held.length < bytes) {
      const more = await this.#more();
      if (more === undefined && this.#held.length === 0) return undefined;
      if (more === undefined) throw cut();
      this.#held = Buffer.concat([this.#held, more]);
    }
    const taken = this.#held.subarray(0, bytes);
    this.#held = this.#held.subarray(bytes);
    return taken;
  }

  async *next(bytes: number): AsyncGenerator<Buffer> {
    this.#left = bytes;
    while (this.#left > 0) yield await this.#piece();
  }

  async skip(): Promise<void> {
    while (this.#left > 0) await this.#piece();
  }

  async #piece(): Promise<Buffer> {
    if (this.#held.length === 0) this.#held = (await this.#more()) ?? Buffer.alloc(0);
    if (this.#held.length === 0) throw cut();
    const piece = this.#held.subarray(0, this.#left);
    this.#held = this.#held.subarray(piece.length);
    this.#left -= piece.length;
    return piece;
  }

  async #more(): Promise<Buffer | undefined> {
    for (;;) {
      const next = await this.#iterator.next();
      if (next.done === true) return undefined;
      if (next.value.length > 0) return next.value;
    }
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

function cut(): CorralError {
  return new CorralError("request_invalid", "the body ends in the middle of a content; what came whole before it is kept");
}
