// Many may write at once, or one may sweep. Who sweeps waits until nobody writes, and who would write meanwhile waits for the sweep.
// Writers are never held up by a sweep that waits: a slow upload must not stop the others, and a sweep that comes late finds the same.
// Invariant: a sweep never runs beside a writer.

export class Gate {
  #writers = 0;
  #sweep: Promise<unknown> | undefined;
  #idle: (() => void) | undefined;

  async shared<T>(act: () => Promise<T>): Promise<T> {
    while (this.#sweep !== undefined) await this.#sweep.catch(() => undefined);
    this.#writers += 1;
    try {
      return await act();
    } finally {
      this.#writers -= 1;
      if (this.#writers === 0) this.#idle?.();
    }
  }

  /** For one at a time. */
  async alone<T>(act: () => Promise<T>): Promise<T> {
    while (this.#writers > 0 || this.#sweep !== undefined) {
      if (this.#sweep !== undefined) await this.#sweep.catch(() => undefined);
      else await new Promise<void>((resolve) => (this.#idle = resolve));
    }
    const sweep = act();
    this.#sweep = sweep;
    try {
      return await sweep;
    } finally {
      this.#sweep = undefined;
    }
  }
}
