// Where Corral keeps what outlives a process: kept deltas, masks, journals; and the short directory of its sockets.
// Not a database. Invariant: both directories belong to this user alone, and no sandbox is given a codebase that holds them.

import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import { ensurePrivateDir, UnsafeDirError } from "../base/private-dir.ts";
import { randomText } from "../base/random-text.ts";

export interface DataDir {
  readonly root: string;
  /** One file per sandbox that exists in the kernel. */
  readonly journal: string;
  /** Upper and work directories, kept deltas and their records. */
  readonly deltas: string;
  /** Records of snapshots; their files are among the deltas. */
  readonly snapshots: string;
  /** Compiled masks, shared by all sandboxes of one codebase and policy. */
  readonly masks: string;
  /** Stored codebases: blobs and listings by owner. */
  readonly codebases: string;
  /** The codebase of sandboxes that have none. Nothing is ever committed to it. */
  readonly empty: string;
  /** Disk space set aside, given up when the disk is full: what must be written down at an end can be. */
  readonly reserve: string;
  /** Sockets. Short, because a socket's path must stay below 108 bytes. */
  readonly run: string;
}

export interface DataDirOptions {
  /** As given with `--data`; absent = the default place of this user. */
  readonly path?: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
}

/** Room for the records of many deltas. */
const RESERVE_BYTES = 256 * 1024;
/** Bytes of `sockaddr_un.sun_path`, minus the name of a socket (an id and a separator) and the final NUL. */
const MAX_RUN_BYTES = 108 - 40 - 1;

/** The default data directory: `/var/lib/corral` for root, else below `$XDG_DATA_HOME` or `~/.local/share`. */
export function defaultDataPath(env: DataDirOptions["env"], uid: number): string {
  if (uid === 0) return "/var/lib/corral";
  const home = env["HOME"];
  const share = absolute(env["XDG_DATA_HOME"]) ?? (home === undefined || home === "" ? undefined : join(home, ".local", "share"));
  if (share === undefined)
    throw new CorralError(
      "data_unsafe",
      "no place for the data directory: neither XDG_DATA_HOME nor HOME is set; give one with --data DIR",
    );
  return join(share, "corral");
}

/** Makes the directories where they are missing. Throws `data_unsafe` when others could change them. */
export function openDataDir(options: DataDirOptions): DataDir {
  const path = resolve(options.path ?? defaultDataPath(options.env, options.uid));
  const root = guarded("data directory", path, options.uid);
  const run = guarded("run directory", runPath(root, options), options.uid);
  const dir: DataDir = {
    root,
    run,
    journal: join(root, "journal"),
    deltas: join(root, "deltas"),
    snapshots: join(root, "snapshots"),
    masks: join(root, "masks"),
    codebases: join(root, "codebases"),
    empty: join(root, "empty"),
    reserve: join(root, "reserve"),
  };
  for (const part of [dir.journal, dir.deltas, dir.snapshots, dir.masks, dir.empty]) mkdirSync(part, { recursive: true, mode: 0o700 });
  setAside(dir.reserve);
  return dir;
}

function setAside(reserve: string): void {
  if ((statSync(reserve, { throwIfNoEntry: false })?.size ?? 0) >= RESERVE_BYTES) return;
  try {
    // Not zeros: some file systems keep no blocks for those.
    writeFileSync(reserve, randomBytes(RESERVE_BYTES), { mode: 0o600 });
  } catch {
    // The disk is full already; creating a sandbox says so, and the next start tries again.
    rmSync(reserve, { force: true });
  }
}

/** The name of this data directory among those that share a store; made at the first call. */
export function nodeIdOf(data: DataDir): string {
  const file = join(data.root, "node-id");
  const kept = existsSync(file) ? readFileSync(file, "utf8") : "";
  if (isId("node", kept)) return kept;
  const id = `${ID_PREFIX.node}${randomText(ID_BODY_LENGTH)}`;
  writeFileAtomic(file, id, { sync: true });
  return id;
}

/** Does what must be written down although the disk may be full: then the space set aside is given up, and it is done once more. */
export function withReserve(data: DataDir, act: () => void): void {
  try {
    act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOSPC" && code !== "EDQUOT") throw error;
    rmSync(data.reserve, { force: true });
    act();
  }
}

function guarded(what: string, path: string, uid: number): string {
  try {
    return ensurePrivateDir(path, uid);
  } catch (error) {
    if (error instanceof UnsafeDirError)
      throw new CorralError("data_unsafe", `the ${what} is not safe: ${error.message}`, { cause: error });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOSPC" || code === "EDQUOT")
      throw new CorralError("disk_full", `the ${what} ${path} cannot be made: the disk is full`, { cause: error });
    throw new CorralError("data_unsafe", `the ${what} ${path} cannot be made (${code ?? "unknown"}); give another with --data DIR`, {
      cause: error,
    });
  }
}

/** One run directory per data directory: two of them never meet, and both find theirs again after a crash. */
function runPath(root: string, { env, uid }: DataDirOptions): string {
  const name = createHash("sha256").update(root).digest("hex").slice(0, 8);
  if (uid === 0) return join("/run/corral", name);
  const runtime = absolute(env["XDG_RUNTIME_DIR"]);
  const own = `/tmp/corral-${uid}`;
  const wanted = runtime !== undefined && existsSync(runtime) ? join(runtime, "corral", name) : join(own, name);
  const path = Buffer.byteLength(wanted) <= MAX_RUN_BYTES ? wanted : join(own, name);
  // SAFETY: /tmp is everybody's. Unless the directory above is ours too, another user could have planted it first.
  if (path.startsWith(`${own}/`)) guarded("run directory", own, uid);
  return path;
}

function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") === true ? path : undefined;
}

/** Throws `data_unsafe` when the codebase (a real path) holds the data directory, or lies in it: its sandboxes could read other deltas. */
export function refuseOverlap(data: DataDir, codebase: string): void {
  for (const own of [data.root, data.run]) {
    if (holds(codebase, own)) {
      throw new CorralError(
        "data_unsafe",
        `the directory given holds Corral's own data (${own}), which a sandbox must not see; run over a directory below it, or move the data with --data DIR`,
      );
    }
    if (holds(own, codebase))
      throw new CorralError("data_unsafe", "the directory given lies in Corral's own data directory; run over another one");
  }
}

function holds(outer: string, inner: string): boolean {
  const way = relative(outer, inner);
  return way === "" || (way !== ".." && !way.startsWith(`..${sep}`));
}

/** Where the socket of each sandbox with a network lies, in a directory of its own. */
export function egressSockets({ run }: Pick<DataDir, "run">): string {
  return join(run, "egress");
}
