// A token bucket: so much at once, and so much in time. Holds no timer. Invariant: over any span no more is let through than one bucketful
// and what flowed in meanwhile; what is taken beyond that is owed, and told as time to wait.

import type { Clock } from "./clock.ts";

export class Bucket {
  readonly #clock: Clock;
  readonly #size: number;
  readonly #perMs: number;
  #level: number;
  #atMs: number;

  constructor(clock: Clock, { size, perMs }: { readonly size: number; readonly perMs: number }) {
    this.#clock = clock;
    this.#size = size;
    this.#perMs = perMs;
    this.#level = size;
    this.#atMs = clock.monotonicMs();
  }

  /** Takes it and answers how long to wait before the next, ms; 0 when nothing is owed. */
  take(amount: number): number {
    this.#fill();
    this.#level -= amount;
    return this.#level >= 0 ? 0 : -this.#level / this.#perMs;
  }

  /** Takes one if it is there; else how long until it is, ms. */
  tryOne(): number {
    this.#fill();
    if (this.#level >= 1) {
      this.#level -= 1;
      return 0;
    }
    return (1 - this.#level) / this.#perMs;
  }

  #fill(): void {
    const now = this.#clock.monotonicMs();
    this.#level = Math.min(this.#size, this.#level + (now - this.#atMs) * this.#perMs);
    this.#atMs = now;
  }
}

/** Of bytes: a quarter of a second's may pass at once. */
export function byteBucket(clock: Clock, bytesPerSecond: number): Bucket {
  return new Bucket(clock, { size: bytesPerSecond / 4, perMs: bytesPerSecond / 1000 });
}
