// One model's circuit: after many failures in short time nothing is sent for a while, then one call may try. Not a retry.
// Invariant: while it is open no call passes; half-open, one call passes at a time, and its end decides.

import type { Clock } from "../../base/clock.ts";

const WINDOW_MS = 60_000;
const OPEN_MS = 30_000;
const LEAST_CALLS = 5;
const FAILED_SHARE = 0.5;

export class Breaker {
  readonly #clock: Clock;
  #ends: { readonly at: number; readonly ok: boolean }[] = [];
  #openedAt: number | undefined;
  #probing = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get open(): boolean {
    return this.#openedAt !== undefined;
  }

  /** Asks for one call. Who is let through says how it ended. */
  admits(): boolean {
    if (this.#openedAt === undefined) return true;
    if (this.#probing || this.#clock.monotonicMs() - this.#openedAt < OPEN_MS) return false;
    this.#probing = true;
    return true;
  }

  /** `undefined`: the call was called off and says nothing. */
  ended(ok: boolean | undefined): void {
    const now = this.#clock.monotonicMs();
    const probe = this.#probing;
    this.#probing = false;
    if (ok === undefined) return;
    if (probe || this.#openedAt !== undefined) {
      this.#openedAt = ok ? undefined : now;
      this.#ends = [];
      return;
    }
    this.#ends = [...this.#ends.filter(({ at }) => now - at < WINDOW_MS), { at: now, ok }].slice(-100);
    const failed = this.#ends.filter((end) => !end.ok).length;
    if (this.#ends.length >= LEAST_CALLS && failed >= FAILED_SHARE * this.#ends.length) this.#openedAt = now;
  }
}
