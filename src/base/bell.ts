// Wakes whoever waits for something to change. Holds no state: who was woken looks again.
// Invariant: a wait that begins before a ring is woken by it; an aborted one is woken by its abort and leaves nothing behind.

export class Bell {
  readonly #waiting = new Set<() => void>();

  ring(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  async wait(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#waiting.add(wake);
    signal?.addEventListener("abort", wake);
    await promise;
    signal?.removeEventListener("abort", wake);
    this.#waiting.delete(wake);
  }
}
