// What was counted of each sandbox, over all the processes that the proxy had. Asks nobody. Invariant: a figure never falls while its sandbox is
// open: of a process that was killed what it told last counts on.

import type { GateMetrics } from "./core.ts";

export type EgressTotals = Omit<GateMetrics, "id" | "open">;

export const NO_FIGURES: EgressTotals = { connections: 0, refused: 0, limited: 0, slowedMs: 0, sentBytes: 0, receivedBytes: 0 };

export function sum(one: EgressTotals, other: EgressTotals): EgressTotals {
  return {
    connections: one.connections + other.connections,
    refused: one.refused + other.refused,
    limited: one.limited + other.limited,
    slowedMs: one.slowedMs + other.slowedMs,
    sentBytes: one.sentBytes + other.sentBytes,
    receivedBytes: one.receivedBytes + other.receivedBytes,
  };
}

export class Figures {
  /** Of processes that ended. */
  readonly #before = new Map<string, EgressTotals>();
  /** Of the one that lives. */
  readonly #now = new Map<string, GateMetrics>();

  hear(told: readonly GateMetrics[]): void {
    for (const one of told) this.#now.set(one.id, one);
  }

  /** The process ended; the next one counts from nothing. */
  lost(): void {
    for (const [id, last] of this.#now) this.#before.set(id, sum(this.#before.get(id) ?? NO_FIGURES, last));
    this.#now.clear();
  }

  of(id: string): GateMetrics {
    const now = this.#now.get(id);
    return { id, open: now?.open ?? 0, ...sum(this.#before.get(id) ?? NO_FIGURES, now ?? NO_FIGURES) };
  }

  forget(id: string): void {
    this.#before.delete(id);
    this.#now.delete(id);
  }
}
