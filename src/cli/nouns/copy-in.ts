// Copies a file or a tree of this machine into a sandbox. Links go as links, modes go along; what is neither file, directory nor link is
// left out and told. Invariant: nothing of this machine changes.

import { createReadStream } from "node:fs";
import { lstat, readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename } from "node:path";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { FileCalls } from "../../api/files.ts";
import { type Copied, Lanes, Tally } from "./copies.ts";
import { below, filePath } from "./place.ts";

const MODE_BITS = 0o777;
/** Read whole: a stream of one chunk costs more. */
const SMALL_BYTES = 256 * 1024;

interface Job {
  readonly files: FileCalls;
  readonly lanes: Lanes;
  readonly tally: Tally;
}

export async function copyIn(files: FileCalls, from: string, to: string): Promise<Copied> {
  const job = { files, lanes: new Lanes(), tally: new Tally() };
  const source = Buffer.from(from);
  // The last name is meant as what it leads to, as of every command that takes a path.
  const { isDirectory } = await kindOf(from);
  const isInto = await isDir(files, to);
  // `dir/.` and `dir/..` have no name of their own: their content goes into the target.
  const name = basename(from);
  const target = isInto && name !== "." && name !== ".." && name !== "" ? below(Buffer.from(to), Buffer.from(name)) : Buffer.from(to);
  if (isDirectory) await tree(job, source, target);
  else await file(job, source, target);
  await job.lanes.end();
  return job.tally.all;
}

async function kindOf(path: string): Promise<{ readonly isDirectory: boolean }> {
  try {
    const stats = await stat(path);
    if (stats.isFile() || stats.isDirectory()) return { isDirectory: stats.isDirectory() };
  } catch (cause) {
    throw new CorralError(
      "request_invalid",
      `${JSON.stringify(path)} cannot be read (${(cause as NodeJS.ErrnoException).code ?? "unknown"})`,
      {
        cause,
      },
    );
  }
  throw new CorralError("request_invalid", `${JSON.stringify(path)} is neither a file nor a directory; only those are copied`);
}

async function isDir(files: FileCalls, path: string): Promise<boolean> {
  try {
    return (await files.stat(path)).type === "dir";
  } catch (error) {
    if (errorCode(error) === "file_not_found") return false;
    throw error;
  }
}

async function tree(job: Job, from: Buffer, to: Buffer): Promise<void> {
  const { mode } = await lstat(from).then(async (own) => (own.isSymbolicLink() ? await stat(from) : own));
  await job.files.mkdir(filePath(to), { parents: true, mode: mode & MODE_BITS });
  job.tally.copied += 1;
  for (const name of await readdir(from, { encoding: "buffer" })) {
    const [source, target] = [below(from, name), below(to, name)];
    const stats = await lstat(source);
    if (stats.isDirectory()) await tree(job, source, target);
    else if (stats.isFile()) await job.lanes.add(() => file(job, source, target));
    else if (stats.isSymbolicLink()) await job.lanes.add(() => link(job, source, target));
    else job.tally.leave(source, "neither a file, a directory nor a link");
  }
}

async function file({ files, tally }: Job, from: Buffer, to: Buffer): Promise<void> {
  const { mode, size } = await stat(from);
  await files.write(filePath(to), size <= SMALL_BYTES ? await readFile(from) : createReadStream(from), {
    mode: mode & MODE_BITS,
    parents: true,
  });
  tally.copied += 1;
}

async function link({ files, tally }: Job, from: Buffer, to: Buffer): Promise<void> {
  const target = await readlink(from, { encoding: "buffer" });
  const path = filePath(to);
  // A link is not written over: one that is there goes first, as a file would.
  if (await isThere(files, path)) await files.remove(path);
  await files.link(path, filePath(target));
  tally.copied += 1;
}

async function isThere(files: FileCalls, path: ReturnType<typeof filePath>): Promise<boolean> {
  try {
    await files.stat(path, { follow: false });
    return true;
  } catch (error) {
    if (errorCode(error) === "file_not_found") return false;
    throw error;
  }
}
