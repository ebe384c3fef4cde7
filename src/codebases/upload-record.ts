// An upload under way, as it stands on disk: the tree that was told, by its root, and the codebase that it is for. The tree's listings are
// in the store already; its contents come one by one. Invariant: what a record names is needed until the record is gone.

import { readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { isId } from "../api/ids.ts";
import { isDraft, writeFileAtomic } from "../base/atomic-file.ts";
import type { TreeSums } from "./store.ts";

export interface UploadRecord {
  readonly id: string;
  readonly codebaseId: string;
  readonly createdAt: number;
  readonly tree: TreeSums;
}

const SUFFIX = ".json";

export async function writeUpload(dir: string, record: UploadRecord): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  writeFileAtomic(join(dir, `${record.id}${SUFFIX}`), JSON.stringify(record));
}

export function readUpload(dir: string, id: string): UploadRecord | undefined {
  // SAFETY: the id is joined to a path; one that is spelled like one cannot climb.
  if (!isId("upload", id)) return undefined;
  try {
    return JSON.parse(readFileSync(join(dir, `${id}${SUFFIX}`), "utf8")) as UploadRecord;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return undefined;
  }
}

export function removeUpload(dir: string, id: string): void {
  rmSync(join(dir, `${id}${SUFFIX}`), { force: true });
}

/** Those that are left after the ones of a time before `since`, and drafts of a killed writer, were removed. */
export function listUploads(dir: string, since: number): readonly UploadRecord[] {
  const found: UploadRecord[] = [];
  for (const name of namesIn(dir)) {
    if (isDraft(name)) rmSync(join(dir, name), { force: true });
    const record = readUpload(dir, name.slice(0, -SUFFIX.length));
    if (record === undefined) continue;
    if (record.createdAt < since) removeUpload(dir, record.id);
    else found.push(record);
  }
  return found;
}

function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return [];
  }
}
