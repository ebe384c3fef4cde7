// Files of one live sandbox: each call of the contract as requests to the worker inside. Nothing of a path is decided here: the kernel resolves
// it in the sandbox, as its user and through its view. Invariant: no path of this machine is touched; every call is bounded or comes in pieces.

import { CorralError, errorCode } from "../../api/errors.ts";
import type {
  FileCalls,
  FileContent,
  FileEntry,
  FileEvent,
  FilePath,
  FileUpdate,
  RangeOptions,
  UnpackResult,
  WriteOptions,
} from "../../api/files.ts";
import { MAX_FILE_METADATA, MAX_FILE_METADATA_BYTES, MAX_LISTED_FILES } from "../../api/limits.ts";
import type { ListOf } from "../../api/calls.ts";
import { packTree, unpackTree } from "./archive.ts";
import { Asker, type FilesContext, type Telling } from "./asker.ts";
import { contentOf, openFile, readEntry, writeFile } from "./content.ts";
import { constants } from "node:os";
import { entryOf, listed, readPage, readStat } from "./entries.ts";
import { type AskedPath, askedPath, pathBytes } from "./path.ts";
import { Watches } from "./watch.ts";
import { FLAG, Lie, OP } from "./wire.ts";

type Signal = { readonly signal?: AbortSignal };

const NOTHING = (): undefined => undefined;
/** Entries that one request removes at most: others get their turn between two. */
const REMOVE_STEP = 5_000;
const METADATA_NAME = /^[A-Za-z0-9._-]{1,200}$/;

export class LocalFiles implements FileCalls {
  readonly #asker: Asker;
  readonly #watches: Watches;

  constructor(context: FilesContext) {
    this.#asker = new Asker(context);
    this.#watches = new Watches(context);
  }

  async read(path: FilePath, options: RangeOptions = {}): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of await this.open(path, options)) chunks.push(chunk);
    return chunks.length === 1 ? (chunks[0] as Uint8Array) : Buffer.concat(chunks);
  }

  async readText(path: FilePath, options: RangeOptions = {}): Promise<string> {
    return Buffer.from(await this.read(path, options)).toString("utf8");
  }

  async open(path: FilePath, { offset = 0, length = Infinity, signal }: RangeOptions = {}): Promise<FileContent> {
    const asked = askedPath(path);
    demandWhole("offset", Math.abs(offset));
    if (length !== Infinity) demandWhole("length", length);
    const from = offset >= 0 ? offset : Math.max(0, (await this.#stat(asked, true, { signal })).size + offset);
    return contentOf(await openFile(this.#asker, { path: asked.bytes }, { offset: from, length }, telling("read", asked, { signal })));
  }

  async write(path: FilePath, data: string | Uint8Array | AsyncIterable<Uint8Array>, options: WriteOptions = {}): Promise<FileEntry> {
    const asked = askedPath(path);
    const { mode, parents, exclusive, append, offset, signal } = options;
    if (append === true && offset !== undefined)
      throw new CorralError("request_invalid", "append and offset exclude each other; send one of them");
    if (offset !== undefined) demandWhole("offset", offset);
    const flags =
      modeFlag(mode) |
      (parents === true ? FLAG.parents : 0) |
      (exclusive === true ? FLAG.exclusive : 0) |
      (append === true ? FLAG.append : 0) |
      (offset === undefined ? 0 : FLAG.at);
    const writing = { at: { path: asked.bytes }, flags, mode: mode ?? 0, offset: offset ?? 0 };
    const bytes = typeof data === "string" ? Buffer.from(data, "utf8") : data;
    return entryOf(asked.bytes, (await writeFile(this.#asker, writing, bytes, telling("written", asked, { signal }))).entry);
  }

  async list(
    path: FilePath,
    { limit = MAX_LISTED_FILES, cursor, signal }: Signal & { limit?: number; cursor?: string } = {},
  ): Promise<ListOf<FileEntry>> {
    const asked = askedPath(path);
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LISTED_FILES)
      throw new CorralError("request_invalid", `limit: a page has 1 to ${MAX_LISTED_FILES} entries`);
    const after = cursor === undefined ? Buffer.alloc(0) : Buffer.from(cursor, "base64url");
    if (after.length > 255 || after.includes(0)) throw new CorralError("request_invalid", "cursor: it is none of a listing");
    const request = { op: OP.list, path: asked.bytes, other: after, count: limit };
    const { more, entries } = await this.#asker.look(
      request,
      (answer) => readPage(answer, after, limit),
      telling("listed", asked, { signal }),
    );
    const next = more ? entries.at(-1)?.name.toString("base64url") : undefined;
    const items = entries.filter(({ errno }) => errno !== constants.errno.ENOENT).map((entry) => listed(asked.bytes, entry));
    return { items, ...(next === undefined ? {} : { next }) };
  }

  async stat(path: FilePath, { follow = true, signal }: Signal & { follow?: boolean } = {}): Promise<FileEntry> {
    return await this.#stat(askedPath(path), follow, { signal });
  }

  async exists(path: FilePath, options: Signal = {}): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (error) {
      if (["file_not_found", "not_a_directory"].includes(errorCode(error) ?? "")) return false;
      throw error;
    }
  }

  async move(from: FilePath, to: FilePath, options: Signal & { overwrite?: boolean; parents?: boolean } = {}): Promise<void> {
    const [asked, target] = [askedPath(from, "from"), askedPath(to, "to")];
    const { overwrite = true, parents, signal } = options;
    const flags = (overwrite ? 0 : FLAG.exclusive) | (parents === true ? FLAG.parents : 0);
    const request = { op: OP.move, path: asked.bytes, other: target.bytes, flags };
    try {
      await this.#asker.change(request, NOTHING, telling(`moved to ${target.shown}`, asked, { signal }));
    } catch (error) {
      if (!(error instanceof CorralError) || error.details?.["errno"] !== "EXDEV" || !(await this.#copy(asked, target, options)))
        throw error;
      await this.#remove(asked, 0, { signal });
    }
  }

  async remove(path: FilePath, { recursive, signal }: Signal & { recursive?: boolean } = {}): Promise<void> {
    await this.#remove(askedPath(path), recursive === true ? FLAG.recursive : 0, { signal });
  }

  async mkdir(path: FilePath, { mode, parents, signal }: Signal & { mode?: number; parents?: boolean } = {}): Promise<FileEntry> {
    const asked = askedPath(path);
    const request = { op: OP.mkdir, path: asked.bytes, flags: modeFlag(mode) | (parents === true ? FLAG.parents : 0), mode: mode ?? 0 };
    return await this.#asker.writing(asked.shown, async () =>
      entryOf(asked.bytes, await this.#asker.change(request, readEntry, telling("made", asked, { signal }))),
    );
  }

  async update(path: FilePath, { mode, metadata = {} }: FileUpdate, { signal }: Signal = {}): Promise<FileEntry> {
    const asked = askedPath(path);
    const pairs = Object.entries(metadata);
    for (const [name, value] of pairs) demandMetadata(name, value);
    if (pairs.length > MAX_FILE_METADATA) throw new CorralError("request_invalid", `metadata: more than ${MAX_FILE_METADATA} pairs`);
    const told = telling("changed", asked, { signal });
    return await this.#asker.writing(asked.shown, async () => {
      if (mode !== undefined) await this.#asker.change({ op: OP.set, path: asked.bytes, flags: modeFlag(mode), mode }, readEntry, told);
      for (const [name, value] of pairs) {
        const attribute = { op: OP.setxattr, path: asked.bytes, other: Buffer.from(`user.${name}`) };
        const request = value === null ? { ...attribute, flags: FLAG.unset } : { ...attribute, data: Buffer.from(value, "utf8") };
        await this.#asker.change(request, NOTHING, told);
      }
      return await this.#stat(asked, true, { signal });
    });
  }

  async link(path: FilePath, target: FilePath, { signal }: Signal = {}): Promise<void> {
    const asked = askedPath(path);
    const other = pathBytes(target, "target");
    if (other.length === 0) throw new CorralError("request_invalid", "target: a link leads somewhere");
    await this.#asker.writing(asked.shown, () =>
      this.#asker.change({ op: OP.symlink, path: asked.bytes, other }, NOTHING, telling("made", asked, { signal })),
    );
  }

  watch(path: FilePath, options: Signal & { recursive?: boolean } = {}): AsyncIterable<FileEvent> {
    return this.#watches.watch(askedPath(path), options);
  }

  download(path: FilePath, { signal }: Signal = {}): AsyncIterable<Uint8Array> {
    return packTree(this.#asker, askedPath(path), signal);
  }

  async upload(path: FilePath, tar: Uint8Array | AsyncIterable<Uint8Array>, { signal }: Signal = {}): Promise<UnpackResult> {
    return await unpackTree(this.#asker, askedPath(path), tar, signal);
  }

  async #stat(asked: AskedPath, follow: boolean, options: { signal: AbortSignal | undefined }): Promise<FileEntry> {
    const flags = FLAG.xattrs | (follow ? 0 : FLAG.nofollow);
    const { entry, metadata } = await this.#asker.look(
      { op: OP.stat, path: asked.bytes, flags },
      readStat,
      telling("looked at", asked, options),
    );
    return entryOf(asked.bytes, entry, metadata);
  }

  async #remove(asked: AskedPath, flags: number, options: { signal: AbortSignal | undefined }): Promise<void> {
    const readMore = (answer: { u8(): number }): boolean => {
      const more = answer.u8();
      if (more > 1) throw new Lie("a removal that is neither done nor not");
      return more === 1;
    };
    const request = { op: OP.remove, path: asked.bytes, flags, count: REMOVE_STEP };
    while (await this.#asker.change(request, readMore, telling("removed", asked, options)));
  }

  /** From one file system to another: files and links alone. False: it is neither. */
  async #copy(
    from: AskedPath,
    to: AskedPath,
    { overwrite, parents, signal }: Signal & { overwrite?: boolean; parents?: boolean },
  ): Promise<boolean> {
    const stat = { op: OP.stat, path: from.bytes, flags: FLAG.nofollow | FLAG.xattrs };
    const { entry } = await this.#asker.look(stat, readStat, telling("looked at", from, { signal }));
    const path = { base64: to.bytes.toString("base64") };
    if (entry.type === "link") {
      await this.link(path, { base64: entry.target.toString("base64") }, signal === undefined ? {} : { signal });
      return true;
    }
    if (entry.type !== "file") return false;
    const content = await this.open({ base64: from.bytes.toString("base64") }, signal === undefined ? {} : { signal });
    const options = { mode: entry.mode, exclusive: overwrite === false, parents: parents === true };
    await this.write(path, content, signal === undefined ? options : { ...options, signal });
    return true;
  }
}

function telling(verb: string, { shown }: AskedPath, { signal }: { readonly signal: AbortSignal | undefined }): Telling {
  return { verb, shown, signal };
}

function modeFlag(mode: number | undefined): number {
  if (mode === undefined) return 0;
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw new CorralError("request_invalid", "mode: it is a number of 0 to 0o7777");
  return FLAG.mode;
}

function demandWhole(field: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new CorralError("request_invalid", `${field}: it is a whole number of bytes`);
}

function demandMetadata(name: string, value: string | null): void {
  if (!METADATA_NAME.test(name) || name.startsWith("overlay."))
    throw new CorralError(
      "request_invalid",
      `metadata: ${JSON.stringify(name.slice(0, 100))} is no name; use letters, digits, dot, dash and underscore`,
    );
  if (value !== null && Buffer.byteLength(value) > MAX_FILE_METADATA_BYTES)
    throw new CorralError("request_invalid", `metadata: the value of ${name} is longer than ${MAX_FILE_METADATA_BYTES} bytes`);
}
