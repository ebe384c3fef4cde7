// The body that follows a head: takes exactly its bytes off what arrives, without the framing. Not a buffer.
// Invariant: a body ends where its framing says and nowhere else; in a request a chunk that is not plain is an error, and so is a trailer.
// Of an answer both are dropped: what is sent on is framed anew.

import type { Framing } from "./head.ts";

export class BodyError extends Error {
  override readonly name = "BodyError";
}

/** Digits of a chunk's size; no extension, no space. */
const SIZE_LINE = /^[0-9a-f]{1,8}$/i;
const ANSWER_SIZE_LINE = /^[0-9a-f]{1,8}[ \t]*(?:;.*)?$/i;
const LONGEST_SIZE_LINE = 10;
const LONGEST_ANSWER_LINE = 4_096;
const MAX_TRAILERS = 64;
const CRLF = "\r\n";

export class BodyReader {
  readonly #kind: Framing["kind"];
  /** Bytes that are still to come of the body, or of the chunk. */
  #left: number;
  #phase: "size" | "data" | "after" | "trailer" | "done";
  #line = "";
  readonly #isAnswer: boolean;
  #trailers = 0;

  constructor(framing: Framing, of: "request" | "answer") {
    this.#isAnswer = of === "answer";
    this.#kind = framing.kind;
    this.#left = framing.kind === "length" ? framing.bytes : framing.kind === "close" ? Number.POSITIVE_INFINITY : 0;
    this.#phase = framing.kind === "chunked" ? "size" : this.#left === 0 ? "done" : "data";
  }

  get done(): boolean {
    return this.#phase === "done";
  }

  /** True when the end of the connection is the end of the body. */
  get endsWithConnection(): boolean {
    return this.#kind === "close";
  }

  /** Content of the body in `bytes`, and how many of them were taken. */
  take(bytes: Buffer): { readonly content: readonly Buffer[]; readonly taken: number } {
    const content: Buffer[] = [];
    let at = 0;
    while (at < bytes.length && this.#phase !== "done") {
      if (this.#phase === "data") {
        const piece = bytes.subarray(at, at + Math.min(this.#left, bytes.length - at));
        content.push(piece);
        at += piece.length;
        this.#left -= piece.length;
        if (this.#left === 0) this.#phase = this.#kind === "chunked" ? "after" : "done";
      } else at += this.#takeLine(bytes, at);
    }
    return { content, taken: at };
  }

  #takeLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(10, at);
    const piece = bytes.subarray(at, end < 0 ? bytes.length : end + 1);
    this.#line += piece.toString("latin1");
    if (this.#line.length > (this.#isAnswer ? LONGEST_ANSWER_LINE : LONGEST_SIZE_LINE)) throw new BodyError("a chunk's line is too long");
    if (end < 0) return piece.length;
    if (!this.#line.endsWith(CRLF)) throw new BodyError("a chunk's line has no end");
    this.#endLine(this.#line.slice(0, -CRLF.length));
    this.#line = "";
    return piece.length;
  }

  #endLine(line: string): void {
    if (this.#phase === "size") {
      if (!(this.#isAnswer ? ANSWER_SIZE_LINE : SIZE_LINE).test(line)) throw new BodyError("a chunk has no plain size");
      this.#left = Number.parseInt(line, 16);
      this.#phase = this.#left === 0 ? "trailer" : "data";
      return;
    }
    if (line !== "" && this.#isAnswer && this.#phase === "trailer" && ++this.#trailers <= MAX_TRAILERS) return;
    if (line !== "") throw new BodyError("a chunk is longer than it says, or a trailer follows");
    this.#phase = this.#phase === "after" ? "size" : "done";
  }
}

/** Framing of one piece of content: chunks, or nothing around it. */
export function framed(piece: Buffer, kind: Framing["kind"]): Buffer {
  if (kind !== "chunked") return piece;
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}${CRLF}`), piece, Buffer.from(CRLF)]);
}

export const LAST_CHUNK = Buffer.from(`0${CRLF}${CRLF}`);
