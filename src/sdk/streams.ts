// Streams of answers: frames (1 byte kind, 4 bytes length, payload) that may be cut anywhere on their way, and the bytes they are made of.
// Invariant: leaving a loop early lets the connection go; a chunk that was given out is not written to again.

import { CorralError } from "../api/errors.ts";
import { EXEC_FRAME_HEADER_BYTES } from "../api/server.ts";

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

export interface WireFrame {
  readonly kind: number;
  readonly payload: Uint8Array;
}

export async function* frames(response: Response): AsyncGenerator<WireFrame> {
  let held = new Uint8Array(0);
  for await (const chunk of chunks(response)) {
    held = held.length === 0 ? chunk : joined([held, chunk]);
    for (;;) {
      if (held.length < EXEC_FRAME_HEADER_BYTES) break;
      const end = EXEC_FRAME_HEADER_BYTES + new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held.length < end) break;
      yield { kind: held[0] ?? 0, payload: held.slice(EXEC_FRAME_HEADER_BYTES, end) };
      held = held.subarray(end);
    }
  }
}

/** One server-sent event; comments are those without data. */
export interface Message {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

export async function* messages(source: AsyncIterable<Uint8Array>): AsyncGenerator<Message> {
  const decoder = new TextDecoder();
  let held = "";
  for await (const chunk of source) {
    const parts = (held + decoder.decode(chunk, { stream: true })).split("\n\n");
    held = parts.pop() ?? "";
    for (const part of parts) {
      const fields = new Map(part.split("\n").map((line): [string, string] => splitField(line)));
      yield { id: fields.get("id"), event: fields.get("event"), data: fields.get("data") ?? "" };
    }
  }
}

function splitField(line: string): [string, string] {
  const at = line.indexOf(": ");
  return at === -1 ? [line, ""] : [line.slice(0, at), line.slice(at + 2)];
}

/** The body of an answer that is bytes. Nothing is asked before the first is wanted. */
export async function* bytes(ask: () => Promise<Response>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  yield* chunks(await ask());
}

/** By a reader: not every browser iterates a stream. Leaving the loop early lets the connection go. */
export async function* chunks(response: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (let read = await next(reader); !read.done; read = await next(reader)) yield read.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function next(reader: Reader): Promise<Awaited<ReturnType<Reader["read"]>>> {
  try {
    return await reader.read();
  } catch (cause) {
    if ((cause as Error).name === "AbortError") throw new CorralError("canceled", "the call was canceled", { cause });
    throw new CorralError("stream_cut", "the connection to the server broke before its answer was whole", { cause });
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of parts) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

export function parse(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(payload));
}

export function base64(content: Uint8Array): string {
  let text = "";
  for (const byte of content) text += String.fromCharCode(byte);
  return btoa(text);
}
