// Fills a draft from a directory of this machine. The caller decided that it may be read: it is read with this process's rights.
// Invariant: no link is followed, below the directory itself either, also when names change while it is read: every step goes by a
// descriptor of the directory before.

import { constants, type BigIntStats } from "node:fs";
import { type FileHandle, lstat, open, readdir, readlink } from "node:fs/promises";
import { CorralError } from "../api/errors.ts";
import { printable } from "../policy/bytes.ts";
import { type Filler, refused } from "./filler.ts";

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** What does not `belong` is left out. FIFOs, sockets and devices are left out; answers their paths. Throws `codebase_not_found`, `codebase_unreadable`. */
export async function importDir(filler: Filler, dir: string, belongs: (path: string) => boolean = () => true): Promise<readonly string[]> {
  const skipped: string[] = [];
  const root = await open(dir, O_RDONLY | O_DIRECTORY).catch((cause: unknown) => {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") throw new CorralError("codebase_not_found", `there is no directory ${dir}`, { cause });
    throw new CorralError("codebase_unreadable", `${dir} cannot be read (${code ?? "unknown"})`, { cause });
  });
  try {
    await below({ filler, skipped, belongs }, root, "");
    await filler.settled();
    return skipped;
  } finally {
    await filler.quiet();
  }
}

interface Import {
  readonly filler: Filler;
  readonly skipped: string[];
  readonly belongs: (path: string) => boolean;
}

/** Takes over the handle. */
async function below(all: Import, handle: FileHandle, path: string): Promise<void> {
  try {
    // SAFETY: by the descriptor, not by name: what is put in the directory's place meanwhile is not looked at.
    const place = `/proc/self/fd/${handle.fd}`;
    const names = await readdir(place, { encoding: "buffer" });
    for (const name of names.map((bytes) => bytes.toString("latin1")).sort()) await one(all, place, path === "" ? name : `${path}/${name}`);
  } catch (error) {
    throw unreadable(path === "" ? "/" : path, error);
  } finally {
    await handle.close();
  }
}

async function one(all: Import, place: string, path: string): Promise<void> {
  const { filler, skipped, belongs } = all;
  if (!belongs(path)) return;
  const name = Buffer.from(`${place}/${path.slice(path.lastIndexOf("/") + 1)}`, "latin1");
  const stats = await lstat(name, { bigint: true }).catch(gone);
  if (stats === undefined) return;
  const times = timesOf(stats);
  if (stats.isSymbolicLink()) {
    const target = await readlink(name, { encoding: "buffer" }).catch(gone);
    if (target !== undefined) await filler.link(path, { target: target.toString("latin1"), ...times });
  } else if (stats.isDirectory()) {
    const handle = await open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    await filler.dir(path, { mode: Number(stats.mode), ...times }).catch(async (error: unknown) => {
      await handle.close();
      throw error;
    });
    await below(all, handle, path);
  } else if (stats.isFile()) await file(filler, name, path);
  else skipped.push(printable(path));
}

async function file(filler: Filler, name: Buffer, path: string): Promise<void> {
  const handle = await open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) throw refused(path, "changed while it was read");
    const size = Number(stats.size);
    await filler.file(path, { mode: Number(stats.mode), ...timesOf(stats), size, content: contentOf(handle, size, path) });
  } finally {
    await handle.close();
  }
}

const NS = 1_000_000_000n;
const CHUNK_BYTES = 256 * 1024;

async function* contentOf(handle: FileHandle, size: number, path: string): AsyncGenerator<Uint8Array> {
  let at = 0;
  while (at < size) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at)), 0, null, at);
    if (bytesRead === 0) throw refused(path, "became shorter while it was read");
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

function timesOf({ mtimeNs }: BigIntStats): { readonly seconds: number; readonly ns: number } {
  const ns = ((mtimeNs % NS) + NS) % NS;
  return { seconds: Number((mtimeNs - ns) / NS), ns: Number(ns) };
}

function gone(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  return undefined;
}

function unreadable(path: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof CorralError || code === undefined) return error;
  return new CorralError("codebase_unreadable", `${printable(path)} cannot be read (${code}); nothing was imported`, { cause: error });
}
