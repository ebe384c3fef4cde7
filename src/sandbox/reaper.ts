// Clears what runs that were cut off left in the kernel and in the run directory. Level-triggered: it compares the journal with what
// lives and acts on the difference, so it may itself be cut off and run again, or twice at once.
// Invariant: nothing of a living spawner or maker is touched; a delta is never removed here, only handed to whoever keeps deltas.

import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isAlive } from "../base/process-identity.ts";
import { removeCgroups } from "../runtime/native/cgroup-leftovers.ts";
import { type DataDir, egressSockets } from "./data-dir.ts";
import { type JournalEntry, listJournal, removeJournal } from "./journal.ts";

export type LockState = "locked" | "free" | "gone";

export interface ReaperParts {
  readonly data: DataDir;
  /** Parents of our sandboxes' cgroups. */
  readonly cgroupParents: readonly string[];
  /** Whether a living process holds each file's lock, in order. */
  readonly locked: (files: readonly string[]) => Promise<readonly LockState[]>;
  /** Sandboxes that are known to be gone although their maker lives. */
  readonly ended: ReadonlySet<string>;
  /** Takes over the delta of a sandbox that is no more. */
  readonly settleDelta: (entry: JournalEntry) => Promise<void>;
}

export interface Leftovers {
  readonly entries: readonly JournalEntry[];
  /** Journal files that cannot be read and that nobody holds: of a writer that was killed, or cut by a power loss. */
  readonly broken: readonly string[];
}

/** What would be reaped now. Asks for locks only where the maker is gone: a question is a lock for a moment. */
export async function findLeftovers(parts: Pick<ReaperParts, "data" | "locked" | "ended">): Promise<Leftovers> {
  const { entries, broken } = listJournal(parts.data.journal);
  const orphans = entries.filter(({ id, maker }) => parts.ended.has(id) || !isAlive(maker));
  const files = [...orphans.map(({ id }) => join(parts.data.journal, `${id}.json`)), ...broken];
  if (files.length === 0) return { entries: [], broken: [] };
  const states = await parts.locked(files);
  const free = new Set(files.filter((_, index) => states[index] === "free"));
  return {
    entries: orphans.filter(({ id }) => free.has(join(parts.data.journal, `${id}.json`))),
    broken: broken.filter((file) => free.has(file)),
  };
}

/** Returns how many sandboxes were cleared. */
export async function reap(parts: ReaperParts): Promise<number> {
  const { entries, broken } = await findLeftovers(parts);
  for (const entry of entries) await reapOne(parts, entry);
  for (const file of broken) rmSync(file, { force: true });
  return entries.length;
}

/** The journal goes last: until then the next start finds the sandbox again. */
async function reapOne(parts: ReaperParts, entry: JournalEntry): Promise<void> {
  await removeCgroups(parts.cgroupParents, entry.id);
  for (const name of runFiles(parts.data.run, entry.id)) rmSync(join(parts.data.run, name), { recursive: true, force: true });
  rmSync(join(egressSockets(parts.data), entry.id), { recursive: true, force: true });
  await parts.settleDelta(entry);
  await removeJournal(parts.data.journal, entry.id);
}

/** Names in the run directory that belong to a sandbox. */
export function runFiles(run: string, id: string): readonly string[] {
  return readdirSync(run).filter((name) => name === id || name.startsWith(`${id}.`));
}
