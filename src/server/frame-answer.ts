// An answer of frames: binary, or the same as lines of JSON. Invariant: `start` is the first frame; a slow reader slows whoever writes and
// costs the server one chunk; for a reader that has gone everything is dropped.

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { CorralError, errorCode } from "../api/errors.ts";
import { EXEC_FRAME, EXEC_FRAME_HEADER_BYTES } from "../api/server.ts";
import { seenHeaders } from "./observe.ts";

type Kind = keyof typeof EXEC_FRAME;
type Encode = (kind: Kind, payload: Uint8Array) => Uint8Array | string;

const NDJSON = "application/x-ndjson";

/** Writes in the order of the calls. Output that comes before `open` waits, so that `start` is always the first frame. */
export class FrameAnswer {
  readonly #request: FastifyRequest;
  readonly #reply: FastifyReply;
  readonly #raw: ServerResponse;
  readonly #encode: Encode;
  readonly #opened = Promise.withResolvers<void>();
  #last: Promise<void> = this.#opened.promise;

  constructor(request: FastifyRequest, reply: FastifyReply) {
    this.#request = request;
    this.#reply = reply;
    this.#raw = reply.raw;
    this.#encode = request.headers.accept === NDJSON ? asLine : asFrame;
  }

  /** Sends the headers and the first frame. From here on errors are frames. */
  async open(start: unknown): Promise<void> {
    this.#reply.hijack();
    const type = this.#encode === asLine ? NDJSON : "application/octet-stream";
    this.#raw.writeHead(200, { "content-type": type, ...seenHeaders(this.#request) });
    await this.#write(this.#encode("start", json(start)));
    this.#opened.resolve();
  }

  /** Ends the answer with what `result` resolves to, or with its error. */
  async close(result: () => Promise<unknown>): Promise<void> {
    const request = this.#request;
    try {
      await this.send("end", json(await result()));
    } catch (error) {
      const code = errorCode(error) ?? "internal";
      request.seen.failure = code;
      const message = error instanceof CorralError ? error.message : "the server failed in a way nobody foresaw";
      await this.send("error", json({ code, message, requestId: request.id }));
    }
    this.#raw.end();
  }

  /** Resolves when the reader has room for more, or has gone. */
  send(kind: Kind, payload: Uint8Array): Promise<void> {
    // Encoded at once: a chunk is valid only until the call returns.
    const bytes = this.#encode(kind, payload);
    this.#last = this.#last.then(() => this.#write(bytes));
    return this.#last;
  }

  async #write(bytes: Uint8Array | string): Promise<void> {
    if (this.#raw.destroyed) return;
    if (this.#raw.write(bytes)) return;
    const left = new AbortController();
    const closed = (): void => left.abort();
    this.#raw.once("close", closed);
    await once(this.#raw, "drain", { signal: left.signal }).catch(() => undefined);
    this.#raw.off("close", closed);
  }
}

function asFrame(kind: Kind, payload: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(EXEC_FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt8(EXEC_FRAME[kind], 0);
  frame.writeUInt32BE(payload.length, 1);
  frame.set(payload, EXEC_FRAME_HEADER_BYTES);
  return frame;
}

function asLine(kind: Kind, payload: Uint8Array): string {
  const bytes = Buffer.from(payload);
  const data: unknown = kind === "stdout" || kind === "stderr" ? bytes.toString("base64") : JSON.parse(bytes.toString("utf8"));
  return `${JSON.stringify({ kind, data })}\n`;
}

export function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** Aborted when the reader goes away before the answer is whole. */
export function gone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
