// What the guest tells of a command's end or failed start, as exit codes and words for people. Pure.
// Invariant: codes are those of a shell: 124 timed out, 126 not executable, 127 not found, 128 + n by a signal.

import { constants } from "node:os";
import { CorralError } from "../api/errors.ts";
import type { GuestExit } from "../runtime/runtime.ts";

const EXIT_TIMEOUT = 124;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;
const EXIT_SIGNAL_BASE = 128;
const { ENOENT, ENOTDIR } = constants.errno;

/** Why a program did not start, as a shell would say it. */
export function startWords(startErrno: number): string {
  return notFound(startErrno) ? "command not found" : errnoWords(startErrno);
}

export function notFound(startErrno: number): boolean {
  return startErrno === ENOENT || startErrno === ENOTDIR;
}

export function exitCode(exit: GuestExit): number {
  if (exit.startErrno !== 0) return notFound(exit.startErrno) ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
  if (exit.timedOut || exit.idle) return EXIT_TIMEOUT;
  return exit.signal === 0 ? exit.code : EXIT_SIGNAL_BASE + exit.signal;
}

export function cwdError(cwd: string, errno: number): CorralError {
  return new CorralError(
    "exec_failed",
    `cwd: ${JSON.stringify(cwd)} cannot be entered (${errnoWords(errno)}); give a directory that the sandbox can see`,
  );
}

const WORDS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOEXEC: "not a program (no #! line and no known format)",
  E2BIG: "argument list too long",
  EAGAIN: "no process could be made: the limit of processes is reached",
  ENOMEM: "not enough memory",
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  ELOOP: "too many symbolic links",
  EISDIR: "is a directory",
  ETXTBSY: "the file is being written",
};

function errnoWords(errno: number): string {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
  return name === undefined ? `error ${errno}` : (WORDS[name] ?? name);
}
