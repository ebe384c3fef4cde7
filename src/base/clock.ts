// Time as a part that is handed over: wall clock for what people read, monotonic for what is measured or waited for.
// Not a timer service. Invariant: `monotonicMs` never goes back; nothing that is measured uses `wallMs`.

export interface Clock {
  /** Milliseconds since 1970, as the machine believes. */
  wallMs(): number;
  /** Milliseconds since an unnamed moment; never goes back. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
