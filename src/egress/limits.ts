// What one sandbox may take of the proxy. Numbers alone. Invariant: every wait and every store of the proxy has its bound here.

export interface GateLimits {
  /** Connections at once. */
  readonly connections: number;
  /** Bytes of both directions together in a second; absent: as many as come. */
  readonly bytesPerSecond?: number;
  /** How long a connection may move nothing, ms. */
  readonly idleMs: number;
  /** Until a head, a hello or the line of the guest is whole, ms. */
  readonly headMs: number;
  /** Until an address answers, ms. */
  readonly connectMs: number;
  /** Until the first byte of an answer, ms. */
  readonly answerMs: number;
}

export const DEFAULT_GATE_LIMITS: GateLimits = {
  connections: 256,
  idleMs: 10 * 60_000,
  headMs: 10_000,
  connectMs: 10_000,
  answerMs: 10 * 60_000,
};

/** Connections beyond the limit that are told so instead of closed. */
export const TOLD_CONNECTIONS = 32;
/** How long an address of a name holds at least and at most, ms. */
export const MIN_PIN_MS = 30_000;
export const MAX_PIN_MS = 60 * 60_000;
/** Names of one sandbox whose addresses are kept. */
export const MAX_PINS = 1_024;
/** Addresses of one name that are tried. */
export const MAX_TRIED = 4;
/** How often idle connections are looked for, ms. */
export const SWEEP_MS = 1_000;
/** How often the parent is told what was counted, which is what it knows when this process is killed, ms. */
export const NEWS_MS = 1_000;
/** Different verdicts of one sandbox that are told in one second; the rest is told as one. */
export const MAX_TOLD = 50;
/** How long verdicts alike are gathered, ms. */
export const GATHER_MS = 1_000;
