// What happens once at a start: commits that were cut off are ended, what cut-off runs left in the kernel is reaped, their deltas are
// adopted for a day, and those whose day is over go. It looks first and opens nothing where there is nothing to do.
// Invariant: a delta with something in it is never removed before its day is over, and is named when it is adopted.

import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { KeptDelta, Reaped } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import { CUT_OFF_DELTA_MS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import { isAlive } from "../base/process-identity.ts";
import { deltaDir, type KeptRecord, readKept, writeKept } from "../view/kept.ts";
import { letGo } from "../view/layers.ts";
import type { RunTool } from "../view/view.ts";
import { cgroupParents } from "../runtime/native/cgroup-leftovers.ts";
import { type DataDir, withReserve } from "./data-dir.ts";
import { listJournal } from "./journal.ts";
import { isPaused } from "./paused-record.ts";
import { type LockState, reap } from "./reaper.ts";

export interface SettleRequest {
  readonly data: DataDir;
  readonly clock: Clock;
  /** Opens a runtime for its tools; asked only when there is something to do. */
  readonly openTool: () => Promise<RunTool>;
  /** Sandboxes that are known to be gone although their maker lives. */
  readonly ended?: ReadonlySet<string>;
  /** How long a spawner that is about to end may hold a sandbox that is to be reaped, ms; absent: it is left to the next start. */
  readonly patienceMs?: number;
}

const LOCK_PAUSE_MS = 50;

export const NOTHING_REAPED: Reaped = { objects: 0, deltas: [], failures: [] };

export async function settle(request: SettleRequest): Promise<Reaped> {
  const { data, ended = new Set() } = request;
  const { records, damaged } = surveyDeltas(data);
  // The journal is listed after the deltas: one that is made meanwhile is in both or in neither.
  const orphans = orphansOf(data, records);
  const { entries, broken } = listJournal(data.journal);
  const abandoned = entries.filter(({ id, maker }) => ended.has(id) || !isAlive(maker));
  const expired = [...records.values()].filter((record) => record !== undefined && isExpired(request, record)) as readonly KeptRecord[];
  const commits = [...records.keys()].some((id) => existsSync(join(deltaDir(data.deltas, id).path, "commit.json")));
  if (orphans.length + abandoned.length + broken.length + expired.length === 0 && !commits) return { ...NOTHING_REAPED, failures: damaged };
  const tool = await request.openTool();
  const failures = commits ? await endCommits(tool, data, [...records.keys()]) : [];
  const adopted: KeptDelta[] = [];
  const adopt = async (id: string): Promise<void> => {
    const delta = await adoptDelta(tool, data, id);
    if (delta !== undefined) adopted.push(delta);
  };
  const locked = (files: readonly string[]): Promise<readonly LockState[]> => askLocks(tool, files, request.patienceMs ?? 0);
  const objects = await reap({ data, cgroupParents: cgroupParents(), locked, ended, settleDelta: ({ id }) => adopt(id) });
  for (const id of orphans) await adopt(id);
  for (const { sandboxId } of expired) await removeDelta(tool, data, sandboxId);
  return { objects, deltas: adopted, failures: [...damaged, ...failures] };
}

interface Survey {
  /** By id; `undefined`: a delta without a record. */
  readonly records: ReadonlyMap<string, KeptRecord | undefined>;
  /** What to tell of records that cannot be read. They keep nobody from working; discarding takes them away. */
  readonly damaged: readonly string[];
}

function surveyDeltas(data: DataDir): Survey {
  const records = new Map<string, KeptRecord | undefined>();
  const damaged: string[] = [];
  for (const id of readdirSync(data.deltas)) {
    if (!isId("sandbox", id)) continue;
    try {
      records.set(id, recordOf(data, id));
    } catch (error) {
      damaged.push(error instanceof Error ? error.message : String(error));
    }
  }
  return { records, damaged };
}

/** Deltas that no journal knows and nobody keeps: their run was cut off together with its journal. */
function orphansOf(data: DataDir, records: Survey["records"]): readonly string[] {
  const unkept = [...records].filter(([, record]) => record?.kept !== true).map(([id]) => id);
  if (unkept.length === 0) return [];
  const known = new Set(readdirSync(data.journal).map((name) => name.split(".")[0]));
  // Looked at once more: its sandbox may have ended, and kept or removed it, between the two listings.
  return unkept.filter(
    (id) => !known.has(id) && existsSync(deltaDir(data.deltas, id).path) && recordOf(data, id)?.kept !== true && !isPaused(data.deltas, id),
  );
}

function recordOf(data: DataDir, id: string): KeptRecord | undefined {
  try {
    return readKept(data.deltas, id);
  } catch (error) {
    if (error instanceof CorralError && error.code === "delta_not_found") return undefined;
    throw error;
  }
}

/** The record was last written when the delta was adopted. */
function isExpired({ data, clock }: SettleRequest, { sandboxId, cutOff }: KeptRecord): boolean {
  if (!cutOff) return false;
  const stats = statSync(join(deltaDir(data.deltas, sandboxId).path, "delta.json"), { throwIfNoEntry: false });
  return stats !== undefined && clock.wallMs() - stats.mtimeMs > CUT_OFF_DELTA_MS;
}

/** One that cannot be ended keeps nothing else waiting: what it says is told at this start, and again by whoever asks for its delta. */
async function endCommits(tool: RunTool, data: DataDir, ids: readonly string[]): Promise<readonly string[]> {
  const { recoverCommit } = await import("../view/recover.ts");
  const failures: string[] = [];
  for (const id of ids) {
    try {
      const ended = await recoverCommit(tool, data.deltas, id);
      if (ended?.outcome === "applied" && ended.whole) await removeDelta(tool, data, id);
    } catch (error) {
      failures.push(`the commit of ${id}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return failures;
}

/** Keeps what a run that was cut off wrote for a day; nothing of it when it wrote nothing. */
export async function adoptDelta(tool: RunTool, data: DataDir, id: string): Promise<KeptDelta | undefined> {
  if (isPaused(data.deltas, id)) return undefined;
  await dropStale(tool, data, id);
  const record = recordOf(data, id);
  if (record === undefined || (record.layers === undefined && isEmptyDir(deltaDir(data.deltas, id).upper))) {
    await removeDelta(tool, data, id);
    return undefined;
  }
  const adopted = { ...record, kept: true, cutOff: true };
  withReserve(data, () => writeKept(data.deltas, adopted));
  const { sandboxId, codebaseDir, createdAt, cutOff } = adopted;
  return { sandboxId, codebaseDir, createdAt, cutOff };
}

/** Ends a restore that was cut off. Of a delta that no sandbox has mounted. */
export async function dropStale(tool: RunTool, data: DataDir, id: string): Promise<void> {
  const record = recordOf(data, id);
  if (record?.stale !== true) return;
  const { upper, work } = deltaDir(data.deltas, id);
  for (const tree of [upper, work]) await drained(tool(["remove", tree]));
  const { stale: _, ...whole } = record;
  writeKept(data.deltas, whole);
}

/** Absent or without entries. */
export function isEmptyDir(upper: string): boolean {
  try {
    return readdirSync(upper).length === 0;
  } catch (error) {
    // Not ours to list (rootless): then it holds what a sandbox made.
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

export async function removeDelta(tool: RunTool, data: DataDir, id: string): Promise<void> {
  const layers = layersOf(data, id);
  await drained(tool(["remove", deltaDir(data.deltas, id).path]));
  await letGo(tool, data.deltas, layers, id);
}

/** Of a record that cannot be read they are found by the next start, without their delta. */
function layersOf(data: DataDir, id: string): readonly string[] {
  try {
    return recordOf(data, id)?.layers ?? [];
  } catch {
    return [];
  }
}

/** Asks again while one is held: its spawner lost its server, and ends. */
async function askLocks(tool: RunTool, files: readonly string[], patienceMs: number): Promise<readonly LockState[]> {
  for (let waited = 0; ; waited += LOCK_PAUSE_MS) {
    const text = await drained(tool(["locked", ...files]));
    const states = text.trim().split("\n") as LockState[];
    if (waited >= patienceMs || !states.includes("locked")) return states;
    await sleep(LOCK_PAUSE_MS);
  }
}

async function drained(run: ReturnType<RunTool>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of run.stdout) chunks.push(Buffer.from(chunk));
  await run.done;
  return Buffer.concat(chunks).toString("latin1");
}
