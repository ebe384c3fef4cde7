// Snapshots on disk: what making a sandbox from one takes. One directory each:
//
//   <snapshots>/<id>/snapshot.json                  the record; a snapshot without it is none
//   <snapshots>/<id>/base.walk.zst, rebased.json    those of the delta that it was taken of, where that had them
//
// Its files lie in frozen layers (view/layers.ts). Invariant: the record is written last and removed first.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { CreateRequest } from "../api/sandbox.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";
import { deltaDir, keepFile, type KeptRecord } from "../view/kept.ts";

const VERSION = 1;
const COMPANIONS = ["base.walk.zst", "rebased.json"] as const;

export interface SnapshotRecord {
  readonly sandboxId: string;
  /** As it was made; it holds the environment, so the file is for its owner alone. */
  readonly request: CreateRequest;
  /** Of the delta that it was taken of. */
  readonly delta: KeptRecord;
  /** Topmost first. */
  readonly layers: readonly string[];
  /** Set: it is a step of this process and goes with it. */
  readonly maker?: ProcessIdentity;
}

function snapshotPath(snapshots: string, id: string): string {
  // SAFETY: the id is joined to a path; one that is spelled like an id cannot climb.
  if (!isId("snapshot", id)) throw snapshotNotFound(id);
  return join(snapshots, id);
}

export function snapshotNotFound(id: string): CorralError {
  return new CorralError("snapshot_not_found", `there is no snapshot ${JSON.stringify(id)}: it never was, or was deleted`);
}

export function hasSnapshot(snapshots: string, id: string): boolean {
  return existsSync(join(snapshotPath(snapshots, id), "snapshot.json"));
}

/** Throws `snapshot_not_found`, or `delta_malformed` for a record that cannot be read. */
export function readSnapshot(snapshots: string, id: string): SnapshotRecord {
  let text: string;
  try {
    text = readFileSync(join(snapshotPath(snapshots, id), "snapshot.json"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw snapshotNotFound(id);
    throw error;
  }
  try {
    const { version, ...record } = JSON.parse(text) as SnapshotRecord & { readonly version: number };
    if (version === VERSION) return record;
  } catch {
    // Told below, like a version that is not known.
  }
  throw new CorralError("delta_malformed", `the record of the snapshot ${id} is not one that this version of Corral wrote; delete it`);
}

/** On disk when it returns. */
export function writeSnapshot(snapshots: string, id: string, deltas: string, record: SnapshotRecord): void {
  const path = snapshotPath(snapshots, id);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  carry(deltaDir(deltas, record.sandboxId).path, path);
  writeFileAtomic(join(path, "snapshot.json"), JSON.stringify({ version: VERSION, ...record }), { mode: 0o600, sync: true });
}

/** What the codebase was, and what commits made of it since, are the new delta's too. */
export function carryFrom(snapshots: string, id: string, deltas: string, sandboxId: string): void {
  carry(snapshotPath(snapshots, id), deltaDir(deltas, sandboxId).path);
}

function carry(from: string, to: string): void {
  for (const name of COMPANIONS) if (existsSync(join(from, name))) keepFile(join(from, name), join(to, name));
}

export function removeSnapshot(snapshots: string, id: string): void {
  const path = snapshotPath(snapshots, id);
  rmSync(join(path, "snapshot.json"), { force: true });
  rmSync(path, { recursive: true, force: true });
}

export function listSnapshots(snapshots: string): readonly string[] {
  return readdirSync(snapshots).filter((id) => isId("snapshot", id));
}
