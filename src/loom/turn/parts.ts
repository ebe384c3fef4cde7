// What the engine is built of, all of it handed in: store, clock, models. Types, and the bounds of a turn.
// Invariant: the engine reads no clock, makes no chance and reaches no provider but by these.

import type { OnBusy, OnUnknown } from "../../api/loom.ts";
import type { Alarms } from "../../base/alarm.ts";
import type { Clock } from "../../base/clock.ts";
import type { Store } from "../../store/store.ts";
import type { Model } from "../models/model.ts";
import type { Price } from "../models/prices.ts";

export interface TurnTimeouts {
  /** From the request to the first text. */
  readonly firstChunkMs: number;
  readonly betweenChunksMs: number;
  readonly callMs: number;
  readonly turnMs: number;
}

export interface EngineConfig {
  /** Turns that run at once. */
  readonly concurrency: number;
  /** Of one owner. */
  readonly perOwner: number;
  /** Turns that wait. */
  readonly queueMax: number;
  readonly onBusy: OnBusy;
  readonly onUnknown: OnUnknown;
  readonly timeouts: TurnTimeouts;
  /** Text that came is kept, and then shown, after so long. */
  readonly flushMs: number;
}

export const ENGINE_DEFAULTS: EngineConfig = {
  concurrency: 256,
  perOwner: 32,
  queueMax: 10_000,
  onBusy: "enqueue",
  onUnknown: "stop",
  timeouts: { firstChunkMs: 30_000, betweenChunksMs: 30_000, callMs: 300_000, turnMs: 1_800_000 },
  flushMs: 20,
};

export interface EngineParts {
  readonly store: Pick<Store, "loom" | "transaction" | "settled">;
  readonly clock: Clock;
  readonly alarms: Alarms;
  /** Models for a type of session, the first one first. Empty: none is configured for it. */
  readonly route: (type: string) => readonly Model[];
  /** By `provider/name`. */
  readonly prices: ReadonlyMap<string, Price>;
  /** Who writes: one name for each process. */
  readonly writer: string;
  /** Whether a writer whose lease stands ended without giving it back. */
  readonly isDead: (writer: string) => Promise<boolean>;
  readonly newId: (noun: "session" | "branch" | "turn" | "ledger") => string;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly config: EngineConfig;
  /** A defect, or a store that failed, where no caller waits. */
  readonly onError: (error: unknown) => void;
}
