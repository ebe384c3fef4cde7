// Texts of turns that later turns are told again: read from the store and counted once, kept while there is room. Not a store. Invariant: a text is kept
// for its session alone, and never changes; what is kept is bounded, and the longest unread leaves first.

import type { Blobs } from "../../store/loom-blobs.ts";
import { countTokens } from "./tokens.ts";

/** Characters of all texts together. */
const MOST = 32 * 1024 ** 2;

export interface CountedText {
  readonly text: string;
  readonly tokens: number;
}

export class PastTexts {
  readonly #kept = new Map<string, CountedText>();
  #size = 0;

  /** By hash. */
  async many(blobs: Blobs, sessionId: string, hashes: readonly string[]): Promise<ReadonlyMap<string, CountedText>> {
    const found = new Map<string, CountedText>();
    const missing: string[] = [];
    for (const hash of hashes) {
      const key = `${sessionId} ${hash}`;
      const text = this.#kept.get(key);
      if (text === undefined) missing.push(hash);
      else {
        found.set(hash, text);
        this.#kept.delete(key); // to the end: read last
        this.#kept.set(key, text);
      }
    }
    if (missing.length === 0) return found;
    for (const [hash, text] of await blobs.many(sessionId, missing)) {
      const counted = { text, tokens: countTokens(text) };
      found.set(hash, counted);
      this.#keep(`${sessionId} ${hash}`, counted);
    }
    return found;
  }

  #keep(key: string, counted: CountedText): void {
    if (this.#kept.has(key)) return;
    this.#kept.set(key, counted);
    this.#size += counted.text.length + key.length;
    for (const [oldest, other] of this.#kept) {
      if (this.#size <= MOST) return;
      this.#kept.delete(oldest);
      this.#size -= other.text.length + oldest.length;
    }
  }
}
