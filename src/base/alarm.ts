// Waiting as a part that is handed over, beside the clock: so that a test can let half an hour pass at once. Not a scheduler.
// Invariant: an alarm that was called off never rings; one of the system keeps no process alive.

export interface Alarms {
  /** Rings once, after `ms`. Returns what calls it off. */
  after(ms: number, ring: () => void): () => void;
}

export const systemAlarms: Alarms = {
  after: (ms, ring) => {
    const timer = setTimeout(ring, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`, or as soon as the signal fires. */
export async function pause(alarms: Alarms, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => resolve();
  const off = alarms.after(ms, wake);
  signal.addEventListener("abort", wake);
  await promise;
  off();
  signal.removeEventListener("abort", wake);
}
