// Trees as tar streams, both ways. Out: the directory as it is read, without special files and what the sandbox's user cannot read. In: an
// archive of a stranger. SAFETY: every entry is written beneath the target without following a link, so no order of entries leads out of it;
// names and links that lead out are refused by name all the same. Invariant: memory does not grow with the tree or the archive beyond
// MAX_PENDING_BYTES of names; nothing is compressed, so an archive is as large as what comes of it.

import { CorralError, errorCode } from "../../api/errors.ts";
import type { UnpackResult } from "../../api/files.ts";
import { MAX_ARCHIVE_ENTRIES, MAX_LISTED_FILES, MAX_PATH_BYTES } from "../../api/limits.ts";
import { readTar, type TarEntry, TarError } from "../../base/tar-reader.ts";
import { tarEnd, tarHeader, tarPadding } from "../../base/tar-writer.ts";
import type { Asker, Telling } from "./asker.ts";
import { openFile, readEntry, writeFile } from "./content.ts";
import { readPage, readStat } from "./entries.ts";
import { type AskedPath, joined } from "./path.ts";
import { FLAG, OP, type WireEntry } from "./wire.ts";

/** Of names that wait: directories that are still to be read, or get their mode at the end. */
const MAX_PENDING_BYTES = 32 * 1024 * 1024;
const NOTHING = (): undefined => undefined;
const EMPTY = Buffer.alloc(0);

export async function* packTree(asker: Asker, root: AskedPath, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, void> {
  const telling: Telling = { verb: "packed", shown: root.shown, signal };
  const pending: Buffer[] = [EMPTY];
  let waiting = 0;
  let entries = 0;
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    waiting -= dir.length;
    for await (const entry of entriesOf(asker, root, dir, telling)) {
      const path = joined(dir, entry.name);
      if (++entries > MAX_ARCHIVE_ENTRIES)
        throw new CorralError(
          "limit_reached",
          `${root.shown} cannot be packed: it holds more than ${MAX_ARCHIVE_ENTRIES} entries; pack parts of it`,
        );
      yield* packed({ asker, root, telling }, path, entry);
      if (entry.type !== "dir") continue;
      pending.push(path);
      waiting += path.length;
      if (waiting > MAX_PENDING_BYTES)
        throw new CorralError("limit_reached", `${root.shown} cannot be packed: its names are too long; pack parts of it`);
    }
  }
  yield tarEnd();
}

/** What vanished or cannot be read meanwhile is left out; the root itself is not. */
async function* entriesOf(asker: Asker, root: AskedPath, dir: Buffer, telling: Telling): AsyncGenerator<WireEntry, void, void> {
  let after: Buffer = EMPTY;
  for (;;) {
    const request = { op: OP.list, base: root.bytes, path: dir, other: after, count: MAX_LISTED_FILES };
    const from = after;
    const page = await asker
      .look(request, (answer) => readPage(answer, from, MAX_LISTED_FILES), telling)
      .catch((error: unknown) => {
        if (dir.length > 0 && isGone(error)) return undefined;
        throw error;
      });
    if (page === undefined) return;
    for (const entry of page.entries) if (entry.errno === 0 && entry.type !== "other") yield entry;
    if (!page.more) return;
    after = page.entries.at(-1)?.name ?? EMPTY;
  }
}

interface Packing {
  readonly asker: Asker;
  readonly root: AskedPath;
  readonly telling: Telling;
}

async function* packed({ asker, root, telling }: Packing, path: Buffer, entry: WireEntry): AsyncGenerator<Uint8Array, void, void> {
  const { type, mode, target } = entry;
  if (type === "other") return;
  const header = { path: path.toString("latin1"), type, mode, mtimeSeconds: Math.max(0, entry.mtimeSeconds) };
  if (type !== "file") {
    yield tarHeader({ ...header, size: 0, target: target.toString("latin1") });
    return;
  }
  const opened = await openFile(asker, { base: root.bytes, path }, { offset: 0, length: Infinity }, { ...telling, follow: false }).catch(
    (error: unknown) => {
      if (isGone(error)) return undefined;
      throw error;
    },
  );
  if (opened === undefined) return;
  const size = opened.entry.size;
  yield tarHeader({ ...header, size });
  let left = size;
  for await (const chunk of opened.chunks) {
    const part = chunk.subarray(0, left);
    left -= part.length;
    if (part.length > 0) yield part;
    if (left === 0) break;
  }
  if (left > 0)
    throw new CorralError("file_busy", `${JSON.stringify(path.toString("utf8"))} became shorter while it was packed; try again`);
  yield tarPadding(size);
}

function isGone(error: unknown): boolean {
  return ["file_not_found", "file_denied", "not_a_directory", "is_a_directory", "file_special", "file_busy"].includes(
    errorCode(error) ?? "",
  );
}

interface Finish {
  readonly path: Buffer;
  readonly mode: number;
  readonly mtime: bigint;
}

export async function unpackTree(
  asker: Asker,
  root: AskedPath,
  tar: Uint8Array | AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<UnpackResult> {
  const unpacking = new Unpacking(asker, root, signal);
  try {
    for await (const entry of readTar(tar instanceof Uint8Array ? one(tar) : tar)) await unpacking.put(entry);
  } catch (error) {
    if (error instanceof TarError) throw new CorralError("archive_invalid", `the archive is refused: ${error.message}`, { cause: error });
    throw error;
  }
  return await unpacking.finish();
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

class Unpacking {
  readonly #asker: Asker;
  readonly #root: AskedPath;
  readonly #telling: Telling;
  /** Directories get mode and time when nothing more is written into them. */
  readonly #dirs: Finish[] = [];
  #pending = 0;
  #begun = false;
  #entries = 0;
  #bytes = 0;

  constructor(asker: Asker, root: AskedPath, signal: AbortSignal | undefined) {
    this.#asker = asker;
    this.#root = root;
    this.#telling = { verb: "unpacked into", shown: root.shown, signal };
  }

  async put(entry: TarEntry): Promise<void> {
    if (!this.#begun) await this.#makeRoot();
    if (++this.#entries > MAX_ARCHIVE_ENTRIES) throw new TarError(`it holds more than ${MAX_ARCHIVE_ENTRIES} entries`);
    const path = insidePath(entry.path, "name");
    if (path.length === 0) {
      if (entry.type !== "dir") throw new TarError("an entry without a name");
      return;
    }
    await this.#asker.writing(this.#root.shown, async (full) => {
      full();
      await this.#replacing(path, () => this.#make(entry, path));
    });
  }

  async finish(): Promise<UnpackResult> {
    if (!this.#begun) await this.#makeRoot();
    for (const { path, mode, mtime } of this.#dirs.toReversed()) {
      const request = { op: OP.set, base: this.#root.bytes, path, flags: FLAG.mode | FLAG.mtime, mode, offset: mtime };
      await this.#asker.change(request, readEntry, this.#telling).catch((error: unknown) => {
        if (!isGone(error)) throw error; // another entry of the archive, or a process, has put something else there
      });
    }
    return { entries: this.#entries, bytes: this.#bytes };
  }

  async #makeRoot(): Promise<void> {
    this.#begun = true;
    const request = { op: OP.mkdir, path: this.#root.bytes, flags: FLAG.parents };
    await this.#asker.writing(this.#root.shown, () => this.#asker.change(request, readEntry, this.#telling));
  }

  async #make(entry: TarEntry, path: Buffer): Promise<void> {
    // SAFETY: a device is refused before anything is asked of the worker, and a FIFO would hold up whoever opens it.
    if (entry.type === "special") throw new TarError(`${shown(entry.path)} is a device or a FIFO`);
    const at = { base: this.#root.bytes, path };
    const mtime = BigInt(Math.max(0, entry.mtimeSeconds)) * 1_000_000_000n + BigInt(entry.mtimeNs);
    if (entry.type === "dir") {
      this.#pending += path.length;
      if (this.#pending > MAX_PENDING_BYTES) throw new TarError("it holds too many directories");
      // Open to its owner until the end, or nothing could be put into it.
      await this.#asker.change(
        { op: OP.mkdir, ...at, flags: FLAG.parents | FLAG.mode, mode: entry.mode | 0o700 },
        readEntry,
        this.#telling,
      );
      this.#dirs.push({ path, mode: entry.mode, mtime });
    } else if (entry.type === "file") {
      const flags = FLAG.parents | FLAG.mode;
      const { bytes } = await writeFile(this.#asker, { at, flags, mode: entry.mode }, entry.content(), this.#telling);
      this.#bytes += bytes;
      await this.#asker.change({ op: OP.set, ...at, flags: FLAG.mtime | FLAG.nofollow, offset: mtime }, readEntry, this.#telling);
    } else if (entry.type === "link") {
      const other = insideTarget(path, entry.target);
      await this.#asker.change({ op: OP.symlink, ...at, other, flags: FLAG.parents }, NOTHING, this.#telling);
    } else {
      const from = insidePath(entry.target, "target of a hard link");
      await this.#asker.change(
        { op: OP.link, base: this.#root.bytes, path: from, other: path, flags: FLAG.parents },
        NOTHING,
        this.#telling,
      );
    }
  }

  /** What stands there already goes, unless it is a directory; a file that is replaced by a file need not. */
  async #replacing(path: Buffer, make: () => Promise<void>): Promise<void> {
    const found = await this.#asker
      .look({ op: OP.stat, base: this.#root.bytes, path, flags: FLAG.nofollow }, readStat, this.#telling)
      .catch((error: unknown) => {
        if (errorCode(error) === "file_not_found" || errorCode(error) === "not_a_directory" || errorCode(error) === "file_denied")
          return undefined;
        throw error;
      });
    if (found !== undefined && found.entry.type !== "dir")
      await this.#asker.change({ op: OP.remove, base: this.#root.bytes, path, count: 1 }, (answer) => void answer.u8(), this.#telling);
    await make();
  }
}

/** Relative, in normal form, without a way up. latin1 in, bytes out. */
function insidePath(text: string, what: string): Buffer {
  if (text.includes("\0")) throw new TarError(`a ${what} with a NUL byte`);
  if (text.startsWith("/")) throw new TarError(`the ${what} ${shown(text)} is absolute`);
  const names = text.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) throw new TarError(`the ${what} ${shown(text)} leads out of the archive`);
  const bytes = Buffer.from(names.join("/"), "latin1");
  if (bytes.length > MAX_PATH_BYTES) throw new TarError(`a ${what} of ${bytes.length} bytes`);
  return bytes;
}

/** A link may lead anywhere in the tree that is unpacked, whether something is there or not. */
function insideTarget(path: Buffer, target: string): Buffer {
  if (target === "" || target.includes("\0")) throw new TarError("a link that leads nowhere");
  const refused = new TarError(`the link ${shown(path.toString("latin1"))} to ${shown(target)} leads out of the archive`);
  if (target.startsWith("/")) throw refused;
  let depth = path.toString("latin1").split("/").length - 1;
  for (const name of target.split("/")) {
    if (name === "..") depth -= 1;
    else if (name !== "" && name !== ".") depth += 1;
    if (depth < 0) throw refused;
  }
  const bytes = Buffer.from(target, "latin1");
  if (bytes.length > MAX_PATH_BYTES) throw new TarError("a link with a target that is too long");
  return bytes;
}

/** SAFETY: a name of a hostile archive in a message must not act on a terminal. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200)).replaceAll(/[^\x20-\x7e]/g, "?");
}
