// Copies a file or a tree of a sandbox to this machine. What comes is hostile: its names, its links, how much there is of it.
// Invariant: nothing is written outside of the target: no link is followed below it, whoever made that link, and a link of the sandbox that
// leads out of what is copied is left out and told. A file is there whole or not at all; set-id bits stay behind.

import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, open, rename, rm, stat, symlink } from "node:fs/promises";
import { posix } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { FileCalls, FileEntry, FilePath } from "../../api/files.ts";
import { everyItem } from "../pages.ts";
import { type Copied, Lanes, Tally } from "./copies.ts";
import { below } from "./place.ts";

const MODE_BITS = 0o777;
/** Or this user could not finish the copy. */
const OWN_DIR_BITS = 0o700;
/** Directories in each other: a sandbox can make them faster than they are followed. */
const MAX_DEPTH = 256;

interface Job {
  readonly files: FileCalls;
  readonly lanes: Lanes;
  readonly tally: Tally;
}

interface Spot {
  readonly from: FilePath;
  readonly to: Buffer;
  /** Directories between here and the top of the copy. */
  readonly depth: number;
}

export async function copyOut(files: FileCalls, from: string, to: string): Promise<Copied> {
  const job = { files, lanes: new Lanes(), tally: new Tally() };
  const entry = await files.stat(from);
  const name = posix.basename(from);
  // The target itself is the person's word, and may be a link to a directory.
  const isInto = await stat(to).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  const target = isInto && name !== "" && name !== "." ? below(Buffer.from(to), Buffer.from(name)) : Buffer.from(to);
  const spot = { from, to: target, depth: 0 };
  if (entry.type === "dir") await tree(job, spot, entry.mode);
  else if (entry.type === "file") await file(job, spot, entry.mode);
  else throw new CorralError("request_invalid", `${JSON.stringify(from)} is neither a file nor a directory; only those are copied`);
  await job.lanes.end();
  return job.tally.all;
}

async function tree(job: Job, { from, to, depth }: Spot, mode: number): Promise<void> {
  if (depth > MAX_DEPTH) return job.tally.leave(to, `more than ${MAX_DEPTH} directories deep`);
  await realDir(to);
  job.tally.copied += 1;
  for await (const entry of everyItem((page) => job.files.list(from, page))) await one(job, { from, to, depth: depth + 1 }, entry);
  await chmod(to, (mode & MODE_BITS) | OWN_DIR_BITS);
}

async function one(job: Job, { to: dir, depth }: Spot, entry: FileEntry): Promise<void> {
  const path = entry.base64 === undefined ? Buffer.from(entry.path) : Buffer.from(entry.base64, "base64");
  const name = path.subarray(path.lastIndexOf(0x2f) + 1);
  // SAFETY: a name that a server made up could climb out of the target; no kernel gives such a one.
  if (name.length === 0 || name.equals(Buffer.from(".")) || name.equals(Buffer.from("..")) || name.includes(0))
    throw new CorralError("guest_protocol", "the listing of a directory holds a name that no file has; nothing more is copied");
  const from: FilePath = entry.base64 === undefined ? entry.path : { base64: entry.base64 };
  const spot = { from, to: below(dir, name), depth };
  if (entry.type === "dir") await tree(job, spot, entry.mode);
  else if (entry.type === "file") await job.lanes.add(() => file(job, spot, entry.mode));
  else if (entry.type === "link") await link(job, spot, entry.target ?? "");
  else job.tally.leave(spot.to, "neither a file, a directory nor a link");
}

/** SAFETY: a link where a directory is to be would lead all below it elsewhere. */
async function realDir(path: Buffer): Promise<void> {
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw told(path, error);
  });
  if (!(await lstat(path)).isDirectory())
    throw new CorralError("request_invalid", `${path.toString()} is in the way: it is no directory; remove it or copy elsewhere`);
}

async function file({ files, tally }: Job, { from, to }: Spot, mode: number): Promise<void> {
  // SAFETY: written beside and put in its place, so a link that stands there is replaced and never written through.
  const draft = Buffer.concat([to, Buffer.from(`.corral-${randomBytes(6).toString("hex")}`)]);
  const content = await files.open(from);
  try {
    await using made = await open(draft, "wx", mode & MODE_BITS);
    for await (const chunk of content) await made.writeFile(chunk);
    await rename(draft, to);
  } catch (error) {
    await rm(draft, { force: true });
    throw told(to, error);
  }
  tally.copied += 1;
}

async function link({ tally }: Job, { to, depth }: Spot, target: string): Promise<void> {
  // SAFETY: directories of the copy are real, so what first climbs less than it stands deep, and then only goes down, stays in it, through
  // other such links too. A `..` behind a name could be behind a link, and lead anywhere.
  const names = target.split("/").filter((name) => name !== "" && name !== ".");
  const down = names.findIndex((name) => name !== "..");
  const climbs = down === -1 ? names.length : down;
  const isStraight = !names.slice(climbs).includes("..");
  if (target.startsWith("/") || names.length === 0 || climbs >= depth || !isStraight)
    return tally.leave(to, `a link that leads out of the copy: ${target}`);
  await rm(to, { force: true }).catch((error: unknown) => Promise.reject(told(to, error)));
  await symlink(target, to).catch((error: unknown) => Promise.reject(told(to, error)));
  tally.copied += 1;
}

function told(path: Buffer, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof CorralError || code === undefined || !/^E[A-Z]+$/.test(code)) return error;
  return new CorralError("request_invalid", `${path.toString()} cannot be written (${code})`, { cause: error });
}
