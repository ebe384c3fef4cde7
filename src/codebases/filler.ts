// Fills a draft from outside, entry by entry: what an import of a tar, a directory or git hands over comes through here. Small contents are
// stored side by side. It reads nothing itself.
// Invariant: an entry that cannot be is refused with its path, and with it the whole import; nothing is dropped in silence.

import { createHash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import { MAX_CODEBASE_ENTRIES } from "../api/limits.ts";
import { printable } from "../policy/bytes.ts";
import { PathTakenError, type TreeDraft } from "./draft.ts";
import { type DirNode, namesOfPath, type TreeNode } from "./nodes.ts";
import type { ObjectStore } from "./objects.ts";

export interface FileContent {
  readonly mode: number;
  readonly seconds: number;
  readonly ns: number;
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/** Contents up to this size are read at once and stored while the next is read, bytes. */
const ASIDE_BYTES = 256 * 1024;
const ASIDE_AT_ONCE = 8;

export class Filler {
  readonly #draft: TreeDraft;
  readonly #objects: ObjectStore;
  readonly #aside = new Set<Promise<void>>();
  #failure: { readonly error: Error } | undefined;

  constructor(draft: TreeDraft, objects: ObjectStore) {
    this.#draft = draft;
    this.#objects = objects;
  }

  async file(path: string, { content, size, mode, seconds, ns }: FileContent): Promise<void> {
    const names = this.#names(path);
    const node = (hash: string): TreeNode => ({ kind: "file", mode: mode & 0o777, seconds, ns, size, hash });
    if (size > ASIDE_BYTES) {
      await this.#put(path, names, node((await this.#objects.putBlob({ content, size })).hash));
      return;
    }
    const pieces: Uint8Array[] = [];
    for await (const piece of content) pieces.push(piece);
    const whole = Buffer.concat(pieces);
    // Its place is taken before the next entry is looked at: what an archive does to itself must not depend on the disk.
    await this.#put(path, names, node(createHash("sha256").update(whole).digest("hex")));
    if (this.#aside.size >= ASIDE_AT_ONCE) await Promise.race(this.#aside);
    this.#demand();
    const work: Promise<void> = this.#objects
      .putBlob({ content: [whole], size })
      .then(() => undefined)
      .catch((error: unknown) => void (this.#failure ??= { error: error as Error }))
      .finally(() => this.#aside.delete(work));
    this.#aside.add(work);
  }

  async link(path: string, node: { readonly target: string; readonly seconds: number; readonly ns: number }): Promise<void> {
    if (node.target === "" || node.target.length > 4_095 || node.target.includes("\0"))
      throw refused(path, "is a link to nothing that can be");
    await this.#put(path, this.#names(path), { kind: "link", ...node });
  }

  /** One more path of a file that came before. */
  async again(path: string, target: string): Promise<void> {
    const node = await this.#draft.get(this.#names(target));
    if (node?.kind !== "file") throw refused(path, `is a hard link to ${printable(target)}, which is no file that came before it`);
    await this.#put(path, this.#names(path), node);
  }

  async dir(path: string, attributes: Pick<DirNode, "mode" | "seconds" | "ns">): Promise<void> {
    const names = namesOfPath(path);
    if (names === undefined || path.startsWith("/")) throw unsafe(path);
    await this.#taking(path, () => this.#draft.putDir(names, { ...attributes, mode: attributes.mode & 0o777 }));
  }

  /** What was handed over is stored when it resolves; throws what went wrong with any of it. */
  async settled(): Promise<void> {
    await this.quiet();
    this.#demand();
  }

  /** Nothing that was handed over is under way any more, whatever became of it: what was refused may be swept now. */
  async quiet(): Promise<void> {
    while (this.#aside.size > 0) await Promise.all(this.#aside);
  }

  #demand(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #names(path: string): readonly string[] {
    const names = namesOfPath(path);
    // SAFETY: nothing is written by these names, but a tar of this version is unpacked somewhere some day.
    if (names === undefined || names.length === 0 || path.startsWith("/")) throw unsafe(path);
    return names;
  }

  async #put(path: string, names: readonly string[], node: TreeNode): Promise<void> {
    if (node.kind === "dir") return;
    await this.#taking(path, () => this.#draft.put(names, node, { fresh: true }));
  }

  async #taking(path: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      throw error instanceof PathTakenError ? refused(path, `cannot be put in its place: ${error.message}`) : error;
    }
    demandEntries(this.#draft);
  }
}

export function demandEntries({ entries }: TreeDraft): void {
  if (entries > MAX_CODEBASE_ENTRIES)
    throw new CorralError(
      "limit_reached",
      `a codebase has at most ${MAX_CODEBASE_ENTRIES} entries, this one has more; leave out what is made by tools`,
    );
}

export function refused(path: string, why: string): CorralError {
  return new CorralError("codebase_unreadable", `${printable(path)} ${why}; nothing was imported`, { details: { path: printable(path) } });
}

function unsafe(path: string): CorralError {
  return refused(path, "is no path inside a codebase: relative, without .., names of at most 255 bytes");
}
