// Whether a failed call is made again, and after how long. Pure: chance is handed in. Invariant: what cannot become right by asking again is
// not asked again, and a call whose outcome nobody knows is never repeated here.

import type { ModelFailure } from "./model.ts";

const STATUSES = new Set([408, 409, 425, 429, 500, 502, 503, 504, 529]);
const BASE_MS = 500;
const MOST_MS = 30_000;
/** Attempts of one call on one model, the first included. */
export const MAX_ATTEMPTS = 4;

export function mayRetry({ of, status }: ModelFailure): boolean {
  return of === "not-sent" || of === "partial" || (of === "rejected" && status !== undefined && STATUSES.has(status));
}

/** Full jitter: anything up to a bound that doubles; at least what the provider asked for. `attempt` counts from 1, `random` from 0 to 1. */
export function retryDelayMs({ retryAfterMs = 0 }: ModelFailure, attempt: number, random: number): number {
  return Math.max(Math.min(retryAfterMs, 10 * MOST_MS), random * Math.min(MOST_MS, BASE_MS * 2 ** (attempt - 1)));
}
