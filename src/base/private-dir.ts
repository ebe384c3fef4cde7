// Makes a directory that only this user can enter, and tells why an existing one is not such. Not a permission fixer for what
// others own. Invariant: nobody but root and this user can exchange the directory, or any directory above it.

import { chmodSync, lstatSync, mkdirSync, realpathSync, type Stats } from "node:fs";
import { basename, dirname, join, parse } from "node:path";

const GROUP_WRITE = 0o020;
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;

/** Why a directory cannot be trusted; the message is for people. */
export class UnsafeDirError extends Error {
  override readonly name = "UnsafeDirError";
}

/**
 * Makes `path` (and what is missing above it) with mode 0700 and returns its real name.
 * Throws `UnsafeDirError` when it is a link or belongs to somebody else, or when others can write to it or above it.
 */
export function ensurePrivateDir(path: string, uid: number): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const real = join(realpathSync(dirname(path)), basename(path));
  try {
    mkdirSync(real, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const stats = lstatSync(real);
  if (stats.isSymbolicLink()) throw new UnsafeDirError(`${path} is a symbolic link; name the directory itself`);
  if (!stats.isDirectory()) throw new UnsafeDirError(`${path} is not a directory`);
  if (stats.uid !== uid) throw new UnsafeDirError(`${path} belongs to uid ${stats.uid}, not to uid ${uid}; use a directory of your own`);
  checkAbove(dirname(real), uid);
  // A mode that is too wide on our own directory is mended: nobody above it could have planted something but us.
  if ((stats.mode & 0o077) !== 0) narrow(path, real, stats);
  return real;
}

function narrow(path: string, real: string, stats: Stats): void {
  if (othersCanWrite(stats)) {
    throw new UnsafeDirError(`${path} can be written by others (mode ${(stats.mode & 0o7777).toString(8)}); run: chmod 700 ${path}`);
  }
  chmodSync(real, 0o700);
}

/** Every directory above must be root's or ours and closed to others, or sticky, where others cannot rename what is ours. */
function checkAbove(start: string, uid: number): void {
  for (let dir = start; ; dir = dirname(dir)) {
    const stats = lstatSync(dir);
    const sticky = (stats.mode & STICKY) !== 0;
    if (stats.uid !== 0 && stats.uid !== uid)
      throw new UnsafeDirError(`${dir} belongs to uid ${stats.uid}, who could exchange what lies below`);
    if (othersCanWrite(stats) && !sticky) {
      throw new UnsafeDirError(
        `${dir} can be written by others (mode ${(stats.mode & 0o7777).toString(8)}), who could exchange what lies below`,
      );
    }
    if (dir === parse(dir).root) return;
  }
}

/** A group of the owner's own number is the owner's private group (umask 002 on Debian and Ubuntu): it holds nobody else. */
function othersCanWrite(stats: Stats): boolean {
  if ((stats.mode & OTHERS_WRITE) !== 0) return true;
  return (stats.mode & GROUP_WRITE) !== 0 && stats.gid !== stats.uid;
}
