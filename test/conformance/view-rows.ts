// The operation matrix as data: one row per system call, with what each level must answer. Read by view.ts; nothing runs here.
// A level's answer is for the path that is named; "shut" and "open" say whether its parent directory may be written.
// Invariant: the answers are those of policy.md's levels and the threat model's matrix, not of any engine.

import type { Permission } from "../../src/api/policy.ts";

/** `|` separates answers that are equally right. */
export interface Answers {
  readonly none: string;
  readonly view: string;
  readonly read: string;
  readonly write: string;
}

export type Parent = "shut" | "open";

export interface Row {
  readonly id: string;
  /** What stands at the path: a file with content `content`, an empty directory, a link, or a directory that holds one file of the level. */
  readonly target: "file" | "dir" | "link" | "holder";
  /** Operations (ops.c); the last one's answer counts. `aside` is a file of the sandbox's own that the row may use up. */
  readonly lines: (path: string, aside: string) => readonly (readonly string[])[];
  readonly shut: Answers;
  readonly open: Answers;
}

const LEVELS: readonly Permission[] = ["none", "view", "read", "write"];

function answers(text: string): Answers {
  const [none = "", view = "", read = "", write = ""] = text.split(/\s+/);
  return { none, view, read, write };
}

/** A row of one operation; `text`: answers of none, view, read, write; `open` where a writable parent makes a difference. */
function row(id: string, target: Row["target"], lines: Row["lines"], text: string, open = text): Row {
  return { id, target, lines, shut: answers(text), open: answers(open) };
}

const SEEN = "ENOENT ok ok ok";
const CONTENT = "ENOENT EACCES ok ok";
const CHANGE = "ENOENT EACCES EACCES ok";
const OWNER = "ENOENT EPERM EPERM ok";
const REMOVE = "ENOENT EACCES EACCES EACCES";
const REMOVE_OPEN = "ENOENT EPERM|EACCES EPERM|EACCES ok";
const MAKE = "EACCES EEXIST|EACCES EEXIST|EACCES EEXIST|EACCES";
const MAKE_OPEN = "ok EEXIST|EACCES EEXIST|EACCES EEXIST";
const ONTO = "EACCES EACCES EACCES EACCES";
const ONTO_OPEN = "ok EPERM|EACCES EPERM|EACCES ok";
const DIR_REMOVE = "ENOENT EACCES|EPERM EACCES|EPERM EACCES|EPERM";

const one =
  (op: string, ...rest: string[]): Row["lines"] =>
  (path) => [[op, path, ...rest]];

export const ROWS: readonly Row[] = [
  row("lstat", "file", one("lstat"), SEEN),
  row("stat", "file", one("stat"), SEEN),
  row("stat-dir", "dir", one("stat"), SEEN),
  row("stat-link", "link", one("lstat"), SEEN),
  row("access-f", "file", one("access", "f"), SEEN),
  row("open-path", "file", one("open", "path"), SEEN),
  row("readlink", "link", one("readlink"), SEEN),
  row("listxattr", "file", one("listxattr"), SEEN),
  row("statfs", "dir", one("statfs"), SEEN),
  row("list-dir", "dir", one("list"), SEEN),
  row("chdir", "dir", one("chdir"), SEEN),
  row("inotify-dir", "dir", one("inotify"), SEEN),

  row("access-r", "file", one("access", "r"), CONTENT),
  row("access-x", "file", one("access", "x"), CONTENT),
  row("open-r", "file", one("open", "r"), CONTENT),
  row("read", "file", one("read"), CONTENT),
  row("exec", "file", one("exec"), CONTENT),
  row("mmap-r", "file", one("mmap", "r"), CONTENT),
  row("inotify", "file", one("inotify"), CONTENT),
  row("copy-from", "file", (path, aside) => [["copy", path, aside]], CONTENT),
  row(
    "reopen-r",
    "file",
    (path) => [
      ["open", path, "path", "1"],
      ["reopen", "1", "r"],
    ],
    CONTENT,
  ),
  row("getxattr", "file", one("getxattr", "user.absent"), "ENOENT EACCES ENODATA ENODATA"),
  row("flock", "file", one("flock", "r"), CONTENT),

  row("access-w", "file", one("access", "w"), CHANGE),
  row("open-w", "file", one("open", "w"), CHANGE),
  row("open-rw", "file", one("open", "rw"), CHANGE),
  row("open-append", "file", one("open", "append"), CHANGE),
  row("open-trunc", "file", one("open", "trunc"), CHANGE),
  row("truncate", "file", one("truncate"), CHANGE),
  row("setxattr", "file", one("setxattr", "user.x"), CHANGE),
  row("removexattr", "file", one("removexattr", "user.absent"), "ENOENT EACCES EACCES ENODATA"),
  row("utimens-now", "file", one("utimens", "now"), CHANGE),
  row("mmap-w", "file", one("mmap", "w"), CHANGE),
  row("mmap-shared-of-reader", "file", one("mmap", "shared-of-reader"), "ENOENT EACCES EACCES EACCES"),
  row(
    "reopen-w",
    "file",
    (path) => [
      ["open", path, "path", "2"],
      ["reopen", "2", "rw"],
    ],
    CHANGE,
  ),
  // A view's descriptor was never had: the answer is that of the missing descriptor.
  row(
    "reopen-w-of-reader",
    "file",
    (path) => [
      ["open", path, "r", "3"],
      ["reopen", "3", "rw"],
    ],
    "ENOENT ENOENT EACCES ok",
  ),
  row("flock-w", "file", one("flock", "w"), CHANGE),
  row("copy-onto", "file", (path, aside) => [["copy", aside, path]], "EACCES EACCES EACCES ok", "ok EACCES EACCES ok"),

  row("chmod", "file", one("chmod", "600"), OWNER),
  row("chmod-dir", "dir", one("chmod", "700"), OWNER),
  row("chown", "file", one("chown"), OWNER),
  row("utimens-set", "file", one("utimens", "set"), OWNER),
  row("utimens-link", "link", one("utimens", "set"), OWNER),

  row("unlink", "file", one("unlink"), REMOVE, REMOVE_OPEN),
  row("unlink-link", "link", one("unlink"), REMOVE, REMOVE_OPEN),
  row("rmdir", "dir", one("rmdir"), REMOVE, REMOVE_OPEN),
  row("rename-away", "file", (path, aside) => [["rename", path, aside]], REMOVE, REMOVE_OPEN),
  row("rename-dir", "dir", (path, aside) => [["rename", path, `${aside}-dir`]], DIR_REMOVE, "ENOENT EPERM|EACCES EPERM|EACCES ok|EXDEV"),
  row("exchange", "file", (path, aside) => [["rename", aside, path, "exchange"]], REMOVE, REMOVE_OPEN),
  row("link-to", "file", (path, aside) => [["link", path, `${aside}-link`]], OWNER),

  row("creat", "file", one("open", "creat"), "EACCES EACCES EACCES ok", "ok EACCES EACCES ok"),
  row("excl", "file", one("open", "excl"), MAKE, MAKE_OPEN),
  row("mkdir", "dir", one("mkdir"), MAKE, MAKE_OPEN),
  row("mknod", "file", one("mknod", "r"), MAKE, MAKE_OPEN),
  row("mkfifo", "file", one("mknod", "p"), MAKE, MAKE_OPEN),
  row(
    "mkwhiteout",
    "file",
    one("mknod", "c"),
    "EACCES|EPERM EEXIST|EACCES EEXIST|EACCES EEXIST|EACCES",
    "EPERM EEXIST|EACCES EEXIST|EACCES EEXIST",
  ),
  row("symlink-at", "link", (path) => [["symlink", "anywhere", path]], MAKE, MAKE_OPEN),
  row("link-at", "file", (path, aside) => [["link", aside, path]], MAKE, MAKE_OPEN),
  row("tmpfile-at", "file", (path) => [["tmpfile", "aside", path]], MAKE, MAKE_OPEN),
  row("rename-onto", "file", (path, aside) => [["rename", aside, path]], ONTO, ONTO_OPEN),
  row("noreplace", "file", (path, aside) => [["rename", aside, path, "noreplace"]], MAKE, MAKE_OPEN),

  row("make-in", "dir", (path) => [["open", `${path}/new`, "excl"]], CHANGE),
  row("mkdir-in", "dir", (path) => [["mkdir", `${path}/new`]], CHANGE),
  row("tmpfile-in", "dir", (path, aside) => [["tmpfile", path, `${aside}-made`]], "ENOENT EACCES EACCES ok"),
  row("move-in", "dir", (path, aside) => [["rename", aside, `${path}/moved`]], CHANGE),

  row(
    "rmdir-of-holder",
    "holder",
    one("rmdir"),
    "EACCES EACCES|EPERM|ENOTEMPTY EACCES|EPERM|ENOTEMPTY EACCES|EPERM|ENOTEMPTY",
    "ok EACCES|EPERM|ENOTEMPTY EACCES|EPERM|ENOTEMPTY ENOTEMPTY",
  ),
  row(
    "rename-of-holder",
    "holder",
    (path, aside) => [["rename", path, `${aside}-dir`]],
    DIR_REMOVE.replace("ENOENT", "EACCES"),
    "ok|EXDEV EACCES|EPERM EACCES|EPERM ok|EXDEV",
  ),
];

/** Every place a row is tried at: its path (latin1, without leading `/`) and what must come of it. */
export interface Case {
  readonly row: Row;
  readonly level: Permission;
  readonly parent: Parent;
  readonly path: string;
  readonly aside: string;
  readonly expected: string;
}

export const CASES: readonly Case[] = ROWS.flatMap((of) =>
  (["shut", "open"] as const).flatMap((parent) =>
    LEVELS.map((level) => {
      const path = of.target === "holder" ? `${parent}/${of.id}-${level}` : `${parent}/${of.id}.${level}`;
      return { row: of, level, parent, path, aside: `aside/${of.id}-${parent}-${level}`, expected: of[parent][level] };
    }),
  ),
);
