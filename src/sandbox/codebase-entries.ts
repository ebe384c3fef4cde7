// Reads a directory of this machine for `policy check`: names, kinds, link targets, inodes of files with several names. No content.
// Not the walk that masks are made of: that runs with the spawner's rights; this one sees what its caller may see.
// Invariant: no link is followed, nothing is opened but directories; names are byte strings (latin1).

import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { CorralError } from "../api/errors.ts";
import type { EntryKind } from "../api/policy.ts";
import type { TreeEntry } from "../policy/check.ts";

/** Every entry below `dir`, a directory before what is in it, each listing sorted by bytes. */
export function* codebaseEntries(dir: string): Generator<TreeEntry> {
  const root = Buffer.from(dir);
  const pending: string[] = [""];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const below: string[] = [];
    for (const name of listing(root, at)) {
      const entry = look(root, `${at}/${name}`);
      if (entry === undefined) continue; // gone since it was listed
      yield entry;
      if (entry.kind === "dir") below.push(entry.path);
    }
    pending.push(...below.reverse());
  }
}

function onDisk(root: Buffer, path: string): Buffer {
  return Buffer.concat([root, Buffer.from(path, "latin1")]);
}

function listing(root: Buffer, path: string): readonly string[] {
  try {
    return readdirSync(path === "" ? root : onDisk(root, path), { encoding: "latin1" }).sort((a, b) => (a < b ? -1 : 1));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (path === "" && (code === "ENOENT" || code === "ENOTDIR"))
      throw new CorralError("codebase_not_found", `there is no directory ${root.toString()}`, { cause: error });
    if (path === "")
      throw new CorralError("codebase_unreadable", `${root.toString()} cannot be listed (${code ?? "unknown"})`, { cause: error });
    return []; // unreadable for this user: its name stands in the list, what is in it is nobody's to see
  }
}

function look(root: Buffer, path: string): TreeEntry | undefined {
  const place = onDisk(root, path);
  try {
    const stats = lstatSync(place);
    const kind: EntryKind = stats.isFile() ? "file" : stats.isDirectory() ? "dir" : stats.isSymbolicLink() ? "link" : "other";
    return {
      path,
      kind,
      ...(kind === "link" ? { target: readlinkSync(place, { encoding: "latin1" }) } : {}),
      ...(kind === "file" && stats.nlink > 1 ? { inode: `${stats.dev}:${stats.ino}` } : {}),
    };
  } catch {
    return undefined;
  }
}
