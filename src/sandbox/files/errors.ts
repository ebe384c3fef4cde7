// What an errno of the worker means to whoever called: one code of the table, with the path named. Invariant: the message names no path
// but the caller's own, and what the policy hides is told as what is not there.

import { constants } from "node:os";
import { CorralError, type ErrorCode } from "../../api/errors.ts";

const { errno: E } = constants;

interface Meaning {
  readonly code: ErrorCode;
  readonly why: string;
}

const MEANINGS: ReadonlyMap<number, Meaning> = new Map<number, Meaning>([
  [E.ENOENT, { code: "file_not_found", why: "nothing that the sandbox can see stands there" }],
  [E.EEXIST, { code: "file_exists", why: "something stands there already" }],
  [E.EACCES, { code: "file_denied", why: "permission denied: the policy or the file's own mode refuses it" }],
  [E.EPERM, { code: "file_denied", why: "operation not permitted: the policy, or the owner of the file, refuses it" }],
  [E.EROFS, { code: "file_denied", why: "it lies on what is read-only for everybody" }],
  [E.ELOOP, { code: "file_denied", why: "too many links, or one of /proc, which are never followed" }],
  [E.EXDEV, { code: "file_unsupported", why: "the two lie on different file systems; copy it and remove the first" }],
  [E.ENOTDIR, { code: "not_a_directory", why: "a name on the path is no directory" }],
  [E.EISDIR, { code: "is_a_directory", why: "it is a directory" }],
  [E.ENOTEMPTY, { code: "directory_not_empty", why: "it holds entries; ask for recursive" }],
  [E.ENXIO, { code: "file_special", why: "a FIFO, socket or device is never opened" }],
  [E.ENODEV, { code: "file_special", why: "it has no content" }],
  [E.EBUSY, { code: "file_busy", why: "it is in use" }],
  [E.ETXTBSY, { code: "file_busy", why: "it is a program that runs" }],
  [E.EAGAIN, { code: "file_busy", why: "somebody in the sandbox holds it" }],
  [E.ENAMETOOLONG, { code: "file_unsupported", why: "a name is longer than 255 bytes, or the path than 4,095" }],
  [E.EFBIG, { code: "file_unsupported", why: "the file would be larger than the sandbox may make one" }],
  [E.EOPNOTSUPP, { code: "file_unsupported", why: "the file system does not do that" }],
  [E.EMLINK, { code: "file_unsupported", why: "it has too many links" }],
  [E.E2BIG, { code: "file_unsupported", why: "it has too many attributes" }],
  [E.EINVAL, { code: "file_unsupported", why: "the kernel refuses this for that path" }],
  [E.ENOSPC, { code: "disk_full", why: "no space is left there" }],
  [E.EDQUOT, { code: "disk_full", why: "no space is left there" }],
  [E.EMFILE, { code: "limit_reached", why: "too many files of the sandbox are open; try again" }],
  [E.ENFILE, { code: "limit_reached", why: "too many files of the sandbox are open; try again" }],
  [E.ENOMEM, { code: "limit_reached", why: "the sandbox has no memory left" }],
]);

/** `verb`: what could not be done, `read`. `shown`: the caller's path. */
export function fileError(errno: number, verb: string, shown: string): CorralError {
  const name = Object.entries(E).find(([, number]) => number === errno)?.[0] ?? `error ${errno}`;
  const { code, why } = MEANINGS.get(errno) ?? { code: "file_unsupported", why: `the kernel answers ${name}` };
  return new CorralError(code, `${shown} cannot be ${verb}: ${why}`, { details: { errno: name } });
}
