// Lets callers that ask for the same at the same time share the work. Not a cache: who asks after the work began does not get its
// result, since what was looked at may have changed in between; all who ask meanwhile share the next one.
// Invariant: a caller's result comes from work that began after he asked.

interface Batch<T> {
  sharers: number;
  readonly result: Promise<T>;
}

export interface Shared<T> {
  readonly value: T;
  /** How many callers got this value, this one included. Final when the value is there. */
  readonly sharers: number;
}

export class Batches<T> {
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #next = new Map<string, Batch<T>>();

  async run(key: string, work: () => Promise<T>): Promise<Shared<T>> {
    let batch = this.#next.get(key);
    if (batch === undefined) {
      batch = { sharers: 0, result: this.#begin(key, work) };
      this.#next.set(key, batch);
    }
    batch.sharers++;
    const value = await batch.result;
    return { value, sharers: batch.sharers };
  }

  async #begin(key: string, work: () => Promise<T>): Promise<T> {
    // At once when nothing runs, but never before `run` has put the batch down.
    await (this.#running.get(key) ?? Promise.resolve()).catch(() => {});
    this.#next.delete(key);
    const running = work();
    this.#running.set(key, running);
    try {
      return await running;
    } finally {
      if (this.#running.get(key) === running) this.#running.delete(key);
    }
  }
}
