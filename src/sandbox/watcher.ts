// Holds the disk and inode quota of deltas where the file system keeps none: looks at the disk often and at a delta when it may matter.
// Not a wall: between two looks a command can overshoot, which the sandbox's info says beforehand. Files that were deleted while
// open are counted by nobody but the disk. Invariant: a command is killed only for a delta that was measured above its limit and
// grew while the command ran, so one that clears up is let live.

import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { LimitHit } from "../api/limit-hit.ts";
import type { Clock } from "../base/clock.ts";
import type { RunTool } from "../view/view.ts";

/** Between two looks at the disk while commands run, ms. */
const TICK_MS = 100;
/** Every so many ticks sandboxes without a command are looked at, for what their last one left running. */
const IDLE_TICKS = 10;
/** Longest and shortest time between two measurements of one delta, ms. */
const MAX_PAUSE_MS = 30_000;
const MIN_PAUSE_MS = 1_000;
/** The same for a delta whose owner waits for room. */
const AGAIN_MS = 200;
/** Above a limit the count goes on to this share of what was counted, or growth could not be told from standing still. */
const BEYOND = 2;
/** A measurement may take this share of the time. */
const MAX_SHARE = 0.05;
/** A disk that lost less than this since the last measurement has no delta that grew much. */
const QUIET_BYTES = 1024 * 1024;
const QUIET_FILES = 64;
/** Less than this is left to nobody: file systems keep some blocks for themselves. */
const FULL_BYTES = 64 * 1024;
/** Counts in a row that a delta may spoil by moving directories under them. */
const MAX_SPOILT = 5;
/** Whoever asks how large a delta is waits so long for it to be measured, ms. */
const ASKED_MS = 500;
/** Measurements under way at once: each is a process, and a thousand live sandboxes must not start a thousand. */
const MEASURES_AT_ONCE = 4;

export type QuotaHit = Extract<LimitHit, "disk" | "inodes">;

export interface WatchedDelta {
  readonly id: string;
  /** The delta's upper directory. */
  readonly dir: string;
  readonly diskBytes: number;
  readonly inodes: number;
  readonly tool: RunTool;
  /** Called when it grew past a limit while no command ran: what it left behind writes on. */
  readonly onRunaway: (hit: QuotaHit) => void;
}

export interface MeasuredDelta {
  readonly bytes: number;
  readonly entries: number;
  readonly measuredAt: string;
}

interface Usage {
  readonly bytes: number;
  readonly entries: number;
  readonly whole: boolean;
}

interface Free {
  readonly bytes: number;
  readonly files: number;
}

interface Guard {
  readonly from: Usage;
  readonly hit: (limit: QuotaHit) => void;
}

interface Watched {
  readonly delta: WatchedDelta;
  readonly guards: Set<Guard>;
  usage: Usage;
  /** The disk when it was measured. */
  free: Free;
  measuredMs: number;
  pauseMs: number;
  spoilt: number;
  /** The measurement under way. */
  measuring: Promise<void> | undefined;
  /** A command ended since the last look. */
  stirred: boolean;
  /** Measured since the last command ended: only what grows from there on is somebody's who was left behind. */
  settled: boolean;
}

const EMPTY: Usage = { bytes: 0, entries: 0, whole: true };

export class QuotaWatcher {
  readonly #dir: string;
  readonly #clock: Clock;
  readonly #watched = new Map<string, Watched>();
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  #looking = false;
  #measuring = 0;

  /** `dir` lies on the disk that holds the deltas. */
  constructor(dir: string, clock: Clock) {
    this.#dir = dir;
    this.#clock = clock;
  }

  add(delta: WatchedDelta): void {
    const free = { bytes: Infinity, files: Infinity };
    this.#watched.set(delta.id, {
      delta,
      guards: new Set(),
      usage: EMPTY,
      free,
      measuredMs: -Infinity,
      pauseMs: MIN_PAUSE_MS,
      spoilt: 0,
      measuring: undefined,
      stirred: false,
      settled: true,
    });
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => void this.#tick(), TICK_MS);
      this.#timer.unref();
    }
  }

  remove(id: string): void {
    this.#watched.delete(id);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** A command begins in sandbox `id`; call what is returned when it ended. */
  guard(id: string, hit: (limit: QuotaHit) => void): () => void {
    const watched = this.#watched.get(id);
    if (watched === undefined) return () => undefined;
    const guard = { from: watched.usage, hit };
    watched.guards.add(guard);
    return () => {
      watched.guards.delete(guard);
      watched.stirred = true;
      watched.settled = false;
    };
  }

  /** The limit that the delta of `id` was above when it was last measured; it is measured again at once, for whoever makes room. */
  over(id: string): QuotaHit | undefined {
    const watched = this.#watched.get(id);
    const limit = watched === undefined ? undefined : passed(watched);
    if (watched !== undefined && limit !== undefined) {
      watched.stirred = true;
      watched.pauseMs = Math.min(watched.pauseMs, AGAIN_MS);
    }
    return limit;
  }

  /** How large the delta of `id` was when it was last measured, which it is again when that is some time ago and does not take long. */
  async usage(id: string): Promise<MeasuredDelta | null> {
    const watched = this.#watched.get(id);
    if (watched === undefined) return null;
    const isOld = this.#clock.monotonicMs() - watched.measuredMs > watched.pauseMs;
    if (watched.measuring === undefined && isOld && this.#measuring < MEASURES_AT_ONCE) this.#begin(watched, watched.free);
    const enough = new AbortController();
    await Promise.race([watched.measuring, sleep(ASKED_MS, undefined, { signal: enough.signal, ref: false }).catch(() => undefined)]);
    enough.abort();
    if (watched.measuredMs === -Infinity) return null;
    const measuredAt = new Date(this.#clock.wallMs() - (this.#clock.monotonicMs() - watched.measuredMs)).toISOString();
    return { bytes: watched.usage.bytes, entries: watched.usage.entries, measuredAt };
  }

  /** Whether the disk of the deltas has no room left: then a command that failed most likely failed for that. */
  async isDiskFull(): Promise<boolean> {
    const { bavail, bsize, files, ffree } = await statfs(this.#dir);
    return bavail * bsize < FULL_BYTES || (files > 0 && ffree === 0);
  }

  async #tick(): Promise<void> {
    this.#ticks += 1;
    const idleToo = this.#ticks % IDLE_TICKS === 0;
    const due = [...this.#watched.values()].filter(({ guards, stirred }) => guards.size > 0 || stirred || idleToo);
    if (due.length === 0 || this.#looking) return;
    // Who runs a command comes first: an idle one can wait a tick.
    due.sort((a, b) => b.guards.size - a.guards.size);
    this.#looking = true;
    try {
      const { bavail, bsize, ffree } = await statfs(this.#dir);
      const free = { bytes: bavail * bsize, files: ffree };
      for (const watched of due) this.#look(watched, free);
    } catch {
      // The data directory is gone or its disk fails: commands meet that error themselves; the next tick asks again.
    } finally {
      this.#looking = false;
    }
  }

  #look(watched: Watched, free: Free): void {
    if (watched.measuring !== undefined || this.#measuring >= MEASURES_AT_ONCE) return;
    const lost = { bytes: watched.free.bytes - free.bytes, files: watched.free.files - free.files };
    const age = this.#clock.monotonicMs() - watched.measuredMs;
    const roomBytes = watched.delta.diskBytes - watched.usage.bytes;
    const roomFiles = watched.delta.inodes - watched.usage.entries;
    const pressing = lost.bytes > roomBytes / 2 || lost.files > roomFiles / 2;
    const moved = lost.bytes > QUIET_BYTES || lost.files > QUIET_FILES || watched.stirred;
    if (!pressing && !(moved && age >= watched.pauseMs) && age < MAX_PAUSE_MS) return;
    this.#begin(watched, free);
  }

  #begin(watched: Watched, free: Free): void {
    watched.stirred = false;
    this.#measuring += 1;
    watched.measuring = this.#measure(watched, free).finally(() => {
      this.#measuring -= 1;
      watched.measuring = undefined;
    });
  }

  async #measure(watched: Watched, free: Free): Promise<void> {
    const startedMs = this.#clock.monotonicMs();
    const { diskBytes, inodes } = watched.delta;
    // The count stops at a bound.
    const bytes = watched.usage.bytes > diskBytes ? watched.usage.bytes * BEYOND : diskBytes;
    const entries = watched.usage.entries > inodes ? watched.usage.entries * BEYOND : inodes;
    const usage = await measure(watched.delta.tool, watched.delta.dir, { bytes, entries });
    if (usage === undefined || this.#watched.get(watched.delta.id) !== watched) return;
    const nowMs = this.#clock.monotonicMs();
    const grew = usage.bytes > watched.usage.bytes || usage.entries > watched.usage.entries;
    watched.pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, (nowMs - startedMs) / MAX_SHARE, grew ? 0 : watched.pauseMs * 2));
    watched.spoilt = usage.whole ? 0 : watched.spoilt + 1;
    watched.usage = usage;
    watched.free = free;
    watched.measuredMs = nowMs;
    const idle = watched.guards.size === 0;
    const limit = passed(watched);
    // Without a command only what grew since the last one ended, and not what that one left.
    if (limit !== undefined && (!idle || (watched.settled && (grew || !usage.whole)))) strike(watched, limit);
    if (idle) watched.settled = true;
  }
}

function passed({ delta, usage, spoilt }: Watched): QuotaHit | undefined {
  if (usage.bytes > delta.diskBytes) return "disk";
  if (usage.entries > delta.inodes) return "inodes";
  // A tree that never holds still long enough to be counted is taken for one that is too large.
  return spoilt >= MAX_SPOILT ? "disk" : undefined;
}

function strike(watched: Watched, limit: QuotaHit): void {
  const { usage } = watched;
  if (watched.guards.size === 0) {
    watched.delta.onRunaway(limit);
    return;
  }
  for (const { from, hit } of watched.guards) {
    const grew = limit === "disk" ? usage.bytes > from.bytes : usage.entries > from.entries;
    if (grew || !usage.whole) hit(limit);
  }
}

/** `undefined`: it could not be measured now (the sandbox is going away). */
export async function measure(tool: RunTool, dir: string, bound: Omit<Usage, "whole">): Promise<Usage | undefined> {
  const run = tool(["usage", String(bound.bytes), String(bound.entries), dir]);
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of run.stdout) chunks.push(Uint8Array.from(chunk));
    await run.done;
    const [bytes = "", entries = "", whole] = Buffer.concat(chunks).toString("latin1").trim().split(" ");
    return { bytes: Number(bytes), entries: Number(entries), whole: whole === "whole" };
  } catch {
    run.done.catch(() => undefined);
    return undefined;
  }
}
