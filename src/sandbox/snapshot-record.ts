// Snapshots on disk: what making a sandbox from one takes. One directory each:
//
//   <snapshots>/<id>.maker                          the process that it goes with: while it is being taken, or for good
//   <snapshots>/<id>/snapshot.json                  the record; a snapshot without it is none
//   <snapshots>/<id>/base.walk.zst, rebased.json    those of the delta that it was taken of, where that had them
//
// Its files lie in frozen layers (view/layers.ts). Invariant: the maker is written first, the record last and removed first; what is there
// without a record is its living maker's, or left over.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { CreateRequest } from "../api/sandbox.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import { identify, isAlive, type ProcessIdentity } from "../base/process-identity.ts";
import { deltaDir, keepFile } from "../view/kept.ts";

const VERSION = 1;
const COMPANIONS = ["base.walk.zst", "rebased.json"] as const;

export interface SnapshotRecord {
  readonly sandboxId: string;
  /** As it was made; it holds the environment, so the file is for its owner alone. */
  readonly request: CreateRequest;
  /** Topmost first. */
  readonly layers: readonly string[];
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

/** Before anything refers to it. What the codebase is known to hold is noted now: what is committed later is not known by what is taken. */
export function beginSnapshot(snapshots: string, id: string, deltas: string, sandboxId: string): void {
  const path = snapshotPath(snapshots, id);
  writeFileAtomic(makerFile(snapshots, id), JSON.stringify(identify(process.pid)), { mode: 0o600 });
  mkdirSync(path, { mode: 0o700 });
  carry(deltaDir(deltas, sandboxId).path, path);
}

/** On disk when it returns, unless `passing`: then it goes with this process. */
export function endSnapshot(snapshots: string, id: string, record: SnapshotRecord, passing: boolean): void {
  writeFileAtomic(join(snapshotPath(snapshots, id), "snapshot.json"), JSON.stringify({ version: VERSION, ...record }), {
    mode: 0o600,
    sync: !passing,
  });
  if (!passing) rmSync(makerFile(snapshots, id));
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
  rmSync(makerFile(snapshots, id), { force: true });
}

export function listSnapshots(snapshots: string): readonly string[] {
  const ids = readdirSync(snapshots).map((name) => name.replace(/\.maker$/, ""));
  return [...new Set(ids)].filter((id) => isId("snapshot", id));
}

/** It goes with the process that took it, or is not whole yet. */
export function isPassing(snapshots: string, id: string): boolean {
  return existsSync(makerFile(snapshots, id)) || !hasSnapshot(snapshots, id);
}

/** Not whole, and of no process that lives. */
export function isLeftOver(snapshots: string, id: string): boolean {
  let maker: ProcessIdentity;
  try {
    maker = JSON.parse(readFileSync(makerFile(snapshots, id), "utf8")) as ProcessIdentity;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return !hasSnapshot(snapshots, id);
    return true; // damaged: it was being written
  }
  return !isAlive(maker);
}

function makerFile(snapshots: string, id: string): string {
  return `${snapshotPath(snapshots, id)}.maker`;
}
