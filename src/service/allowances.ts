// How much is told of each sandbox: so much at once, and so much in time. Tells nothing itself. Invariant: whatever sandboxes do, their number
// and the time bound what is let through, and what is not is counted.

import { Bucket } from "../base/bucket.ts";
import type { Clock } from "../base/clock.ts";

/** Subjects that are known at a time; beyond, all begin anew. */
const MOST_SUBJECTS = 10_000;

export class Allowances {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #refillMs: number;
  readonly #known = new Map<string, { readonly bucket: Bucket; missed: number }>();

  /** `most` at once, and one more in so many ms. */
  constructor(clock: Clock, most: number, refillMs: number) {
    this.#clock = clock;
    this.#most = most;
    this.#refillMs = refillMs;
  }

  /** How much went untold before this one; `undefined`: so does this one. */
  spend(id: string, count = 1): number | undefined {
    const fresh = (): Bucket => new Bucket(this.#clock, { size: this.#most, perMs: 1 / this.#refillMs });
    const one = this.#known.get(id) ?? { bucket: fresh(), missed: 0 };
    if (!this.#known.has(id) && this.#known.size >= MOST_SUBJECTS) this.#known.clear();
    this.#known.set(id, one);
    if (one.bucket.tryOne() > 0) {
      one.missed += count;
      return undefined;
    }
    const { missed } = one;
    one.missed = 0;
    return missed;
  }
}
