// One command's output as an HTTP answer: binary frames, or the same as lines of JSON. Invariant: a slow reader slows the program
// and costs the server one chunk; a reader that goes away does not end the command, whose further output is dropped.

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { CorralError, errorCode } from "../api/errors.ts";
import type { ExecRequest, ExecResult, Sandbox } from "../api/sandbox.ts";
import { seenHeaders, staged } from "./observe.ts";
import { EXEC_FRAME, EXEC_FRAME_HEADER_BYTES, type ExecBody, type ExecEnd } from "../api/server.ts";

type Kind = keyof typeof EXEC_FRAME;
type Encode = (kind: Kind, payload: Uint8Array) => Uint8Array | string;

const NDJSON = "application/x-ndjson";

export async function streamExec(sandbox: Sandbox, body: ExecBody, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { stdin, ...rest } = body;
  const lines = request.headers.accept === NDJSON;
  const out = new Answer(reply.raw, lines ? asLine : asFrame);
  const exec: ExecRequest = {
    ...rest,
    ...(stdin === undefined ? {} : { stdin: Buffer.from(stdin, "base64") }),
    onStdout: (chunk) => out.send("stdout", chunk),
    onStderr: (chunk) => out.send("stderr", chunk),
  };
  // Until it has started, an error is an answer like any other.
  const process = await staged(request, "start", () => sandbox.start(exec));
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": lines ? NDJSON : "application/octet-stream", ...seenHeaders(request) });
  await out.open("start", json({ pid: process.pid }));
  try {
    await out.send("end", json(endOf(await process.result)));
  } catch (error) {
    const code = errorCode(error) ?? "internal";
    request.seen.failure = code;
    const message = error instanceof CorralError ? error.message : "the server failed in a way nobody foresaw";
    await out.send("error", json({ code, message, requestId: request.id }));
  }
  reply.raw.end();
}

/** Writes in the order of the calls. Output that comes before `open` waits, so that `start` is always the first frame. */
class Answer {
  readonly #raw: ServerResponse;
  readonly #encode: Encode;
  readonly #opened = Promise.withResolvers<void>();
  #last: Promise<void> = this.#opened.promise;

  constructor(raw: ServerResponse, encode: Encode) {
    this.#raw = raw;
    this.#encode = encode;
  }

  async open(kind: Kind, payload: Uint8Array): Promise<void> {
    await this.#write(this.#encode(kind, payload));
    this.#opened.resolve();
  }

  send(kind: Kind, payload: Uint8Array): Promise<void> {
    // Encoded at once: a chunk is valid only until the call returns.
    const bytes = this.#encode(kind, payload);
    this.#last = this.#last.then(() => this.#write(bytes));
    return this.#last;
  }

  async #write(bytes: Uint8Array | string): Promise<void> {
    if (this.#raw.destroyed) return;
    if (this.#raw.write(bytes)) return;
    const gone = new AbortController();
    const closed = (): void => gone.abort();
    this.#raw.once("close", closed);
    await once(this.#raw, "drain", { signal: gone.signal }).catch(() => undefined);
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

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function endOf({ stdout: _, stderr: __, ...end }: ExecResult): ExecEnd {
  return end;
}
