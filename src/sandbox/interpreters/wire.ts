// What an interpreter's control channel carries. In: 4 bytes length (little-endian), JSON. Out, beside hostile code: lines of `WORD KIND MORE
// PIECE` without the spaces, each begun and ended by a line feed and written in one piece by the kernel; the pieces of one message, joined, are
// JSON. Invariant: a line without the word of the call under way is nothing; what is taken is bounded and checked.

import {
  MAX_CODE_ERROR_CHARACTERS,
  MAX_CODE_MESSAGE_BYTES,
  MAX_CODE_RESULT_BYTES,
  MAX_CODE_STRAY_BYTES,
  MAX_JSON_DEPTH,
  MAX_MIME_TYPES,
} from "../../api/limits.ts";
import type { CodeError, CodeResult, MimeBundle } from "../../api/contexts.ts";

export const WORD_LENGTH = 20;
const MAX_LINE_BYTES = 4_096;
const LINE_FEED = 10;
const MORE = 43;
const MIME = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}$/i;
const JSON_TYPE = /[/+]json$/i;

export interface EndMessage {
  readonly status: "ok" | "error" | "interrupted";
  readonly error: CodeError | null;
}

export type Message = { readonly kind: "result"; readonly result: CodeResult } | ({ readonly kind: "end" } & EndMessage);

export function encoded(message: object): Uint8Array {
  return framed(Buffer.from(JSON.stringify(message)));
}

export function framed(body: Uint8Array): Uint8Array {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
}

/** Cuts the channel's bytes into messages of the call under way. */
export class MessageReader {
  /** A line feed and the word; empty: no call is under way. */
  #needle: Buffer = Buffer.alloc(0);
  #held: Buffer = Buffer.alloc(0);
  #pieces: Buffer[] = [];
  #kind = 0;
  #bytes = 0;
  #stray = 0;

  /** From here on nothing counts but what carries `word`. */
  expect(word: string): void {
    this.#needle = Buffer.from(word === "" ? "" : `\n${word}`);
    this.#pieces = [];
    this.#bytes = 0;
    this.#stray = 0;
  }

  /** `undefined`: what came is more than a call may say, or no message although it carries the word. */
  push(chunk: Uint8Array): readonly Message[] | undefined {
    const all = this.#held.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#held, chunk]);
    const messages: Message[] = [];
    let at = 0;
    for (let start = this.#find(all, at); start >= 0; start = this.#find(all, at)) {
      this.#stray += start - at;
      at = start;
      const end = all.indexOf(LINE_FEED, start + this.#needle.length);
      if (end < 0 && all.length - start <= MAX_LINE_BYTES) break; // the rest of it is to come
      const isLine = end >= 0 && end - start <= MAX_LINE_BYTES;
      if (isLine && !this.#take(all.subarray(start + 1, end), messages)) return undefined;
      at = isLine ? end : start + 1;
    }
    // Without a beginning in it only the last bytes may become one.
    const isBegun = this.#find(all, at) === at && at < all.length;
    const kept = isBegun ? at : Math.max(at, all.length - Math.max(0, this.#needle.length - 1));
    this.#stray += kept - at;
    this.#held = Buffer.from(all.subarray(kept));
    return this.#stray > MAX_CODE_STRAY_BYTES ? undefined : messages;
  }

  #find(all: Buffer, at: number): number {
    return this.#needle.length === 0 ? -1 : all.indexOf(this.#needle, at);
  }

  #take(line: Buffer, messages: Message[]): boolean {
    const at = this.#needle.length - 1;
    if (line.length <= at + 1) return false;
    const kind = line[at] ?? 0;
    if (this.#pieces.length > 0 && kind !== this.#kind) return false;
    this.#kind = kind;
    this.#bytes += line.length;
    if (this.#bytes > MAX_CODE_MESSAGE_BYTES) return false;
    this.#pieces.push(Buffer.from(line.subarray(at + 2)));
    if (line[at + 1] === MORE) return true;
    const text = Buffer.concat(this.#pieces).toString("utf8");
    this.#pieces = [];
    const message = parsed(String.fromCharCode(kind), text);
    if (message !== undefined) messages.push(message);
    return message !== undefined;
  }
}

function parsed(kind: string, text: string): Message | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (kind === "E") return endOf(value);
  return kind === "R" ? resultOf(value) : undefined;
}

function endOf({ status, error }: { readonly status?: unknown; readonly error?: unknown }): Message | undefined {
  if (status !== "ok" && status !== "error" && status !== "interrupted") return undefined;
  const { name, value, traceback } = (error ?? {}) as Record<string, unknown>;
  if (status === "ok") return { kind: "end", status, error: null };
  return { kind: "end", status, error: { name: bounded(name), value: bounded(value), traceback: bounded(traceback) } };
}

function bounded(value: unknown): string {
  return (typeof value === "string" ? value : "").slice(0, MAX_CODE_ERROR_CHARACTERS).toWellFormed();
}

function resultOf({ mime, isMain }: { readonly mime?: unknown; readonly isMain?: unknown }): Message | undefined {
  if (typeof mime !== "object" || mime === null || Array.isArray(mime)) return undefined;
  const entries = Object.entries(mime as Record<string, unknown>)
    .filter(([type]) => MIME.test(type))
    .slice(0, MAX_MIME_TYPES)
    .flatMap(([type, value]): [string, unknown][] => {
      if (JSON_TYPE.test(type)) return isShallow(value) ? [[type, value]] : [];
      return typeof value === "string" ? [[type, value.toWellFormed()]] : [];
    });
  const bundle: MimeBundle = Object.fromEntries(entries);
  return { kind: "result", result: { mime: bundle, isMain: isMain === true } };
}

/** Whoever writes it as JSON again walks it on the stack. */
function isShallow(value: unknown, depth = 0): boolean {
  if (typeof value !== "object" || value === null) return true;
  return depth < MAX_JSON_DEPTH && Object.values(value).every((part) => isShallow(part, depth + 1));
}

/** Room that the results of one call take up. */
export class ResultRoom {
  #left = MAX_CODE_RESULT_BYTES;

  /** The result, or what is told instead of one that is too much. */
  fit(result: CodeResult): CodeResult {
    const size = JSON.stringify(result.mime).length;
    if (size <= this.#left) {
      this.#left -= size;
      return result;
    }
    const types = Object.keys(result.mime).join(", ");
    return { ...result, mime: { "text/plain": `(${types} left out: the results of one call are ${MAX_CODE_RESULT_BYTES} bytes at most)` } };
  }
}
