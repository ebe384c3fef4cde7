// Text that comes from models, of all turns together, into the journal: one transaction for whatever came within a moment. Who follows a turn
// is woken after its text is kept, never before. Invariant: what was shown can be shown again after a kill; of a turn that was taken out
// nothing is written later.

import type { Alarms } from "../../base/alarm.ts";
import type { ChunkRecord } from "../../store/loom-turns.ts";
import type { ModelText } from "../models/model.ts";

export interface Attempt {
  readonly turnId: string;
  readonly n: number;
  readonly attempt: number;
}

export interface FlusherParts {
  readonly alarms: Alarms;
  readonly flushMs: number;
  readonly write: (chunks: readonly ChunkRecord[]) => Promise<void>;
  readonly kept: (turnId: string) => void;
  readonly onError: (error: unknown) => void;
}

interface Pending {
  readonly attempt: Attempt;
  readonly parts: { readonly kind: ModelText["kind"]; text: string }[];
}

/** So much text is written at once, characters. */
const FLUSH_AT = 64 * 1024;

export class Flusher {
  readonly #parts: FlusherParts;
  #pending = new Map<string, Pending>();
  /** The number of the next chunk, by turn. */
  readonly #next = new Map<string, { readonly attempt: number; i: number }>();
  #size = 0;
  #off: (() => void) | undefined;
  #writing: Promise<void> | undefined;

  constructor(parts: FlusherParts) {
    this.#parts = parts;
  }

  add(attempt: Attempt, { kind, text }: ModelText): void {
    let pending = this.#pending.get(attempt.turnId);
    if (pending === undefined) {
      pending = { attempt, parts: [] };
      this.#pending.set(attempt.turnId, pending);
    }
    const last = pending.parts.at(-1);
    if (last?.kind === kind) last.text += text;
    else pending.parts.push({ kind, text });
    this.#size += text.length;
    if (this.#size >= FLUSH_AT) this.#flush();
    else this.#off ??= this.#parts.alarms.after(this.#parts.flushMs, () => this.#flush());
  }

  /** Resolves when nothing of this turn is written any more. */
  async takeOut(turnId: string): Promise<void> {
    this.#pending.delete(turnId);
    await this.#writing;
    this.#next.delete(turnId);
  }

  /** Writes what waits. */
  async flushed(): Promise<void> {
    await this.#writing;
    this.#flush();
    await this.#writing;
  }

  #flush(): void {
    this.#off?.();
    this.#off = undefined;
    if (this.#writing !== undefined) return; // it looks again at its end
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.size > 0) {
      const taken = this.#pending;
      this.#pending = new Map();
      this.#size = 0;
      try {
        await this.#parts.write([...taken.values()].flatMap((pending) => this.#rows(pending)));
        for (const turnId of taken.keys()) this.#parts.kept(turnId);
      } catch (error) {
        // The text is not lost: the end of its call keeps it whole.
        this.#parts.onError(error);
      }
    }
  }

  #rows({ attempt, parts }: Pending): ChunkRecord[] {
    let next = this.#next.get(attempt.turnId);
    if (next?.attempt !== attempt.attempt) next = { attempt: attempt.attempt, i: 0 };
    this.#next.set(attempt.turnId, next);
    const first = next.i;
    next.i += parts.length;
    return parts.map(({ kind, text }, at) => ({ ...attempt, i: first + at, kind, body: text }));
  }
}
