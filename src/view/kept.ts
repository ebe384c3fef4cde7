// What is written down about a delta, so that a later process can show, commit or discard it. One directory per sandbox:
//
//   <deltas>/<sandboxId>/upper, work     the layer and overlayfs's work directory; their files belong to ids of the sandbox
//   <deltas>/<sandboxId>/delta.json      the record (KeptRecord)
//   <deltas>/<sandboxId>/base.walk.zst   what the codebase held at the start (codebase.ts, keepManifest); none over a stored codebase
//   <deltas>/<sandboxId>/commit.json     there while a commit is under way (CommitRecord)
//   <deltas>/<sandboxId>/rebased.json    what the codebase holds where an earlier commit of this delta changed it
//
// It moves no data. Invariant: every file is complete or absent; a record that cannot be read is an error, not an empty delta.

import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { KeptDelta } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { EntryKind, Policy } from "../api/policy.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";
import type { Signature } from "./stage.ts";

/** Changes when an older program could misread what a newer one wrote. */
const VERSION = 1;

export interface KeptRecord extends KeptDelta {
  readonly policy: Policy;
  /** Form of the overlay marks: `trusted.*` as root, `user.*` rootless. */
  readonly trusted: boolean;
  /** False while its sandbox lives, and for good when the delta goes with it. */
  readonly kept: boolean;
  /** Frozen layers below its own, topmost first; absent: none. */
  readonly layers?: readonly string[];
  /** What lies in `upper` is no part of it any more: other files were put in its place, and it is to be removed before anything uses it. */
  readonly stale?: true;
}

export interface CommitRecord {
  /** Name of the staging directory in the codebase. Only names found here are ever recovered: a codebase could hold a forged one. */
  readonly stage: string;
  readonly codebaseDir: string;
  readonly state: "started" | "applied";
  readonly process: ProcessIdentity | null;
  /** Nothing of the delta is left to commit once this one is applied. */
  readonly whole: boolean;
}

/** What stands at a path since we changed it; `target` of a link. */
export interface Rebased {
  readonly signature: Signature | undefined;
  readonly target: string;
  /** Of a file in a stored codebase: where its content lies. */
  readonly place?: string;
}

export interface DeltaDir {
  readonly path: string;
  readonly upper: string;
  readonly work: string;
  readonly manifest: string;
}

/** `deltas`: the directory of all deltas. Throws `delta_not_found` for an id that is none. */
export function deltaDir(deltas: string, sandboxId: string): DeltaDir {
  // SAFETY: the id is joined to a path; an id that is spelled like one cannot climb.
  if (!isId("sandbox", sandboxId)) throw notFound(sandboxId);
  const path = join(deltas, sandboxId);
  return { path, upper: join(path, "upper"), work: join(path, "work"), manifest: join(path, "base.walk.zst") };
}

function notFound(sandboxId: string): CorralError {
  return new CorralError(
    "delta_not_found",
    `there is no kept delta of sandbox ${JSON.stringify(sandboxId)}; \`corral diff\` lists those that are`,
  );
}

/** Makes the delta's directory and record; call it before the sandbox is made. The layer itself is made by the spawner. */
export function makeKept(deltas: string, record: KeptRecord, manifestFile: string | undefined): DeltaDir {
  const dir = deltaDir(deltas, record.sandboxId);
  mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  if (manifestFile !== undefined) keepFile(manifestFile, dir.manifest);
  writeKept(deltas, record);
  return dir;
}

/** The record again, e.g. with `kept` or `cutOff` set. */
export function writeKept(deltas: string, record: KeptRecord): void {
  writeFileAtomic(join(deltaDir(deltas, record.sandboxId).path, "delta.json"), JSON.stringify({ version: VERSION, ...record }));
}

/** One more name for a file that its owner will forget; a copy where the file system has no second names. */
export function keepFile(file: string, as: string): void {
  rmSync(as, { force: true });
  try {
    linkSync(file, as);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EXDEV", "EMLINK", "EPERM", "ENOTSUP"].includes(code)) throw error;
    copyFileSync(file, as);
  }
}

/** Throws `delta_not_found`, or `delta_malformed` when the record cannot be read. */
export function readKept(deltas: string, sandboxId: string): KeptRecord {
  const text = readIfThere(join(deltaDir(deltas, sandboxId).path, "delta.json"));
  if (text === undefined) throw notFound(sandboxId);
  const record = parse(text, "delta.json", sandboxId) as KeptRecord & { readonly version: number };
  if (record.version !== VERSION || record.sandboxId !== sandboxId) throw damaged("delta.json", sandboxId);
  return record;
}

/** Ids of all deltas that have a record, kept or not, oldest first by their time of creation. */
export function listKept(deltas: string): readonly KeptRecord[] {
  const records: KeptRecord[] = [];
  for (const name of readdirSync(deltas)) {
    if (!isId("sandbox", name)) continue;
    try {
      records.push(readKept(deltas, name));
    } catch (error) {
      // Without a record it is a delta that is being made or discarded right now.
      if ((error as CorralError).code !== "delta_not_found") throw error;
    }
  }
  return records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0));
}

/** Ids that have a commit under way or cut off, whatever else is written down of them. */
export function listCommits(deltas: string): readonly string[] {
  return readdirSync(deltas).filter((name) => isId("sandbox", name) && existsSync(join(deltas, name, "commit.json")));
}

export function readCommit(deltas: string, sandboxId: string): CommitRecord | undefined {
  const text = readIfThere(join(deltaDir(deltas, sandboxId).path, "commit.json"));
  return text === undefined ? undefined : (parse(text, "commit.json", sandboxId) as CommitRecord);
}

/** Survives a power loss: what is begun in the codebase must be known. */
export function writeCommit(deltas: string, sandboxId: string, record: CommitRecord | undefined): void {
  const file = join(deltaDir(deltas, sandboxId).path, "commit.json");
  if (record === undefined) rmSync(file, { force: true });
  else writeFileAtomic(file, JSON.stringify(record), { sync: true });
}

interface RebasedLine {
  readonly path: string;
  readonly kind: EntryKind | null;
  readonly mode: number;
  readonly ino: number;
  readonly size: number;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  readonly target: string;
  readonly place?: string;
}

export function readRebased(deltas: string, sandboxId: string): ReadonlyMap<string, Rebased> {
  const text = readIfThere(join(deltaDir(deltas, sandboxId).path, "rebased.json"));
  const rebased = new Map<string, Rebased>();
  for (const line of text === undefined ? [] : (parse(text, "rebased.json", sandboxId) as readonly RebasedLine[])) {
    const { path, kind, target, mtimeNs, ctimeNs, place, ...rest } = line;
    rebased.set(path, {
      target,
      ...(place === undefined ? {} : { place }),
      signature: kind === null ? undefined : { ...rest, kind, mtimeNs: BigInt(mtimeNs), ctimeNs: BigInt(ctimeNs) },
    });
  }
  return rebased;
}

export function writeRebased(deltas: string, sandboxId: string, rebased: ReadonlyMap<string, Rebased>): void {
  const lines = [...rebased].map(([path, { signature, target, place }]): RebasedLine => {
    const { kind = null, mode = 0, ino = 0, size = 0, mtimeNs = 0n, ctimeNs = 0n } = signature ?? {};
    return {
      path,
      kind,
      mode,
      ino,
      size,
      target,
      mtimeNs: mtimeNs.toString(),
      ctimeNs: ctimeNs.toString(),
      ...(place === undefined ? {} : { place }),
    };
  });
  writeFileAtomic(join(deltaDir(deltas, sandboxId).path, "rebased.json"), JSON.stringify(lines), { sync: true });
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw error;
  }
}

function parse(text: string, file: string, sandboxId: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CorralError("delta_malformed", `${file} of the delta of ${sandboxId} is damaged; discard the delta`, { cause: error });
  }
}

function damaged(file: string, sandboxId: string): CorralError {
  return new CorralError(
    "delta_malformed",
    `${file} of the delta of ${sandboxId} is not one that this version of Corral wrote; discard the delta`,
  );
}
