// Reads the layer that a sandbox wrote: a tree of entries, each with what overlayfs means by it. It compares nothing with the base.
// Everything here was written by hostile code through the kernel; the marks themselves only by the kernel - no program inside can
// set them - so a mark that the kernel would not have written means that the delta was forged or damaged.
// Invariant: an entry is one of four things (deleted, directory, leaf, refused by throwing); a mark is never ignored where it counts.

import { CorralError } from "../api/errors.ts";
import { printable } from "../policy/bytes.ts";
import { outputOf } from "./stage.ts";
import type { RunTool } from "./view.ts";
import { decodeWalk, type WalkEntry, type WalkEvent } from "./walk.ts";

export interface UpperDir {
  readonly entry: WalkEntry;
  /** latin1, `""` for the root. */
  readonly path: string;
  /** Nothing of a lower layer shows through. */
  readonly opaque: boolean;
  /** Where the lower directory lies now: absolute in the view, or one name in the parent's lower directory. */
  readonly redirect?: string;
  readonly items: UpperItem[];
}

export type UpperItem =
  | { readonly is: "whiteout"; readonly name: string }
  | { readonly is: "dir"; readonly name: string; readonly dir: UpperDir }
  | {
      readonly is: "leaf";
      readonly name: string;
      readonly entry: WalkEntry;
      /** The entry holds no data: a lower file does, at `redirect` or under the same name. */
      readonly metacopy: boolean;
      readonly redirect?: string;
      readonly capability: boolean;
      /** Of several layers: where its content lies, from the directory that holds them all. */
      readonly place?: string;
      /** The entry whose content it is, where that is another layer's. */
      readonly data?: WalkEntry;
    };

const MAX_REDIRECT_BYTES = 65_536;
const S_IFMT = 0o170000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
/** Marks that say nothing about the merged tree. */
const HARMLESS = new Set(["origin", "impure", "nlink", "upper", "uuid", "protattr"]);

function forged(path: string, why: string): CorralError {
  return new CorralError(
    "delta_malformed",
    `the delta holds a mark that no sandbox can make: ${printable(path)} ${why}; look at it by hand, then discard it`,
  );
}

/** Reads the tree below `dir`. `trusted`: which form of the marks the kernel wrote. */
export async function readUpper(tool: RunTool, dir: string, trusted: boolean): Promise<UpperDir> {
  const prefix = trusted ? "trusted.overlay." : "user.overlay.";
  const run = tool(["walk", "--xattr", prefix, "--xattr", "security.capability", dir]);
  try {
    return await collect(decodeWalk(outputOf(run)), new Marks(prefix, trusted));
  } catch (error) {
    run.kill();
    await run.done.catch(() => undefined);
    throw error;
  }
}

async function collect(batches: AsyncIterable<WalkEvent[]>, marks: Marks): Promise<UpperDir> {
  let root: UpperDir | undefined;
  const open: UpperDir[] = [];
  for await (const batch of batches) {
    for (const event of batch) {
      if (event.event === "leave") {
        open.pop();
        continue;
      }
      if (event.errno !== 0)
        throw new CorralError(
          "delta_malformed",
          `the directory ${printable(event.path || "/")} of the delta cannot be listed (errno ${event.errno})`,
        );
      const parent = open.at(-1);
      const found = parent?.items[event.index];
      if (parent !== undefined && found?.is !== "dir") throw forged(event.path, "is listed and is no directory");
      const dir = found?.is === "dir" ? found.dir : marks.dir(event.path, event.entry);
      for (const entry of event.entries) dir.items.push(marks.item(dir, entry));
      root ??= dir;
      open.push(dir);
    }
  }
  if (root === undefined) throw new CorralError("delta_malformed", "the delta's own directory is not there");
  return root;
}

/** What the kernel's marks on one entry mean. */
class Marks {
  readonly #prefix: string;
  readonly #redirects: boolean;

  /** Without trusted marks the kernel writes neither redirects nor files without data. */
  constructor(prefix: string, trusted: boolean) {
    this.#prefix = prefix;
    this.#redirects = trusted;
  }

  dir(path: string, entry: WalkEntry): UpperDir {
    const marks = this.#of(path, entry);
    const opaque = marks.get("opaque");
    if (opaque !== undefined && opaque !== "y" && opaque !== "x") throw forged(path, "has an opaque mark of an unknown value");
    if (marks.has("metacopy") || marks.has("whiteout")) throw forged(path, "is a directory with a mark of a file");
    const redirect = this.#redirect(path, marks);
    return { entry, path, opaque: opaque === "y", ...(redirect === undefined ? {} : { redirect }), items: [] };
  }

  item(parent: UpperDir, entry: WalkEntry): UpperItem {
    const path = `${parent.path}/${entry.name}`;
    if (entry.errno !== 0)
      throw new CorralError("delta_malformed", `${printable(path)} of the delta cannot be looked at (errno ${entry.errno})`);
    if (entry.mountPoint) throw forged(path, "is a mount");
    if ((entry.mode & S_IFMT) === S_IFCHR && entry.rdevMajor === 0 && entry.rdevMinor === 0) return { is: "whiteout", name: entry.name };
    if (entry.kind === "dir") return { is: "dir", name: entry.name, dir: this.dir(path, entry) };
    const marks = this.#of(path, entry);
    if (marks.has("opaque")) throw forged(path, "is no directory and is marked opaque");
    if (marks.has("whiteout")) return this.#markedWhiteout(parent, path, entry);
    const metacopy = marks.has("metacopy");
    if (metacopy) this.#checkMetacopy(path, entry, marks.get("metacopy") ?? "");
    // A redirect stays behind on a file whose data was copied up later; without `metacopy` the kernel does not read it.
    const redirect = metacopy ? this.#redirect(path, marks) : undefined;
    const capability = entry.xattrs?.has("security.capability") ?? false;
    return { is: "leaf", name: entry.name, entry, metacopy, ...(redirect === undefined ? {} : { redirect }), capability };
  }

  /** A whiteout written as an attribute counts only where the directory says that it holds such. */
  #markedWhiteout(parent: UpperDir, path: string, entry: WalkEntry): UpperItem {
    const holds = parent.entry.xattrs?.get(`${this.#prefix}opaque`) === "x";
    if (!holds || (entry.mode & S_IFMT) !== S_IFREG || entry.size !== 0) throw forged(path, "has a whiteout mark where none can be");
    return { is: "whiteout", name: entry.name };
  }

  #checkMetacopy(path: string, entry: WalkEntry, value: string): void {
    if (!this.#redirects) throw forged(path, "is marked as holding no data, which an unprivileged overlay never writes");
    if ((entry.mode & S_IFMT) !== S_IFREG) throw forged(path, "is no file and is marked as holding no data");
    // Empty, or: version 0, own length, flags 0, a digest algorithm, the digest.
    const wellFormed =
      value.length === 0 ||
      (value.length >= 4 && value.charCodeAt(0) === 0 && value.charCodeAt(1) === value.length && value.charCodeAt(2) === 0);
    if (!wellFormed) throw forged(path, "has a metacopy mark of an unknown form");
  }

  #redirect(path: string, marks: ReadonlyMap<string, string>): string | undefined {
    const value = marks.get("redirect");
    if (value === undefined) return undefined;
    if (!this.#redirects) throw forged(path, "has a redirect, which an unprivileged overlay never writes");
    const names = value.startsWith("/") ? value.slice(1).split("/") : [value];
    const plain = names.every((name) => name !== "" && name !== "." && name !== ".." && !name.includes("/") && !name.includes("\0"));
    if (path === "" || !plain || value.length > MAX_REDIRECT_BYTES) throw forged(path, "has a redirect that is no plain path");
    return value;
  }

  #of(path: string, entry: WalkEntry): ReadonlyMap<string, string> {
    const marks = new Map<string, string>();
    for (const [name, value] of entry.xattrs ?? []) {
      if (!name.startsWith(this.#prefix)) continue;
      const mark = name.slice(this.#prefix.length);
      // `overlay.overlay.x` is how the kernel keeps an attribute that a program inside set: its own, and no mark.
      if (mark.startsWith("overlay.") || HARMLESS.has(mark)) continue;
      if (mark !== "opaque" && mark !== "redirect" && mark !== "metacopy" && mark !== "whiteout")
        throw forged(path, `has an unknown mark (${printable(mark)})`);
      marks.set(mark, value);
    }
    return marks;
  }
}
