// The last bytes that a process wrote, with their streams and offsets, for readers that come and go. Who reads slowly misses bytes and is
// told so; nobody slows the process. Invariant: at most `limit` bytes and MAX_PIECES pieces are held; what was given out is not written to.

import type { StreamName } from "./output.ts";

/** What is written in small pieces shares pages. */
const PAGE_BYTES = 16 * 1024;
/** A process that alternates its streams byte by byte costs no more than this many pieces. */
const MAX_PIECES = 8_192;

export interface Piece {
  readonly stream: StreamName;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Held {
  readonly stream: StreamName;
  readonly offset: number;
  readonly page: Buffer;
  readonly start: number;
  end: number;
}

export class OutputTail {
  readonly #limit: number;
  #pieces: Held[] = [];
  /** Pieces before this index are gone. */
  #first = 0;
  #from: number;
  #to: number;
  #page: Buffer = Buffer.alloc(0);
  #used = 0;

  /** `offset`: of the first byte that will come. */
  constructor(limit: number, offset: number) {
    this.#limit = limit;
    this.#from = this.#to = offset;
  }

  get from(): number {
    return this.#from;
  }

  get to(): number {
    return this.#to;
  }

  /** Copies the chunk. */
  add(stream: StreamName, chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#used === this.#page.length) {
        this.#page = Buffer.allocUnsafeSlow(PAGE_BYTES);
        this.#used = 0;
      }
      const length = Math.min(chunk.length - at, this.#page.length - this.#used);
      this.#page.set(chunk.subarray(at, at + length), this.#used);
      this.#hold(stream, length);
      at += length;
    }
    while (this.#to - this.#from > this.#limit || this.#pieces.length - this.#first > MAX_PIECES) this.#drop();
  }

  /** The piece at `offset`, or the next one that is there; `undefined` at the end. */
  at(offset: number): Piece | undefined {
    if (offset >= this.#to) return undefined;
    let low = this.#first;
    let high = this.#pieces.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((this.#pieces[middle]?.offset ?? 0) <= offset) low = middle;
      else high = middle;
    }
    const held = this.#pieces[low];
    if (held === undefined) return undefined;
    const skip = Math.max(0, offset - held.offset);
    return { stream: held.stream, offset: held.offset + skip, bytes: held.page.subarray(held.start + skip, held.end) };
  }

  #hold(stream: StreamName, length: number): void {
    const last = this.#pieces.at(-1);
    if (last?.stream === stream && last.page === this.#page && last.end === this.#used) last.end += length;
    else this.#pieces.push({ stream, offset: this.#to, page: this.#page, start: this.#used, end: this.#used + length });
    this.#used += length;
    this.#to += length;
  }

  #drop(): void {
    this.#first += 1;
    this.#from = this.#pieces[this.#first]?.offset ?? this.#to;
    // Dropped pieces hold their pages until here, so there are never more of them than of the others.
    if (this.#first * 2 <= this.#pieces.length) return;
    this.#pieces = this.#pieces.slice(this.#first);
    this.#first = 0;
  }
}
