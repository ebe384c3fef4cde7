// A version in the making: a tree in memory over one that is stored, of which only the directories that are touched are read. Written
// listing by listing from below; what did not change keeps its hash. It holds no content.
// Invariant: a path has one entry and a file has nothing below it; nothing is seen of a draft until `write` gave its root.

import type { DirNode, Listing, TreeNode } from "./nodes.ts";
import { EMPTY_LISTING, type ObjectStore } from "./objects.ts";

/** Why a path cannot have what was to be put there. */
export class PathTakenError extends Error {
  override readonly name = "PathTakenError";
}

interface OpenDir {
  readonly kind: "open";
  mode: number;
  seconds: number;
  ns: number;
  readonly entries: Map<string, TreeNode | OpenDir>;
}

/** Attributes of a directory that was told by nobody. */
const MADE_DIR = { mode: 0o755, seconds: 0, ns: 0 };

export const EMPTY_ROOT: DirNode = { kind: "dir", ...MADE_DIR, hash: EMPTY_LISTING, bytes: 0, files: 0, entries: 0 };

export class TreeDraft {
  readonly #objects: ObjectStore;
  readonly #root: OpenDir;
  #entries: number;

  private constructor(objects: ObjectStore, root: OpenDir, entries: number) {
    this.#objects = objects;
    this.#root = root;
    this.#entries = entries;
  }

  /** Over a stored tree, or over nothing. */
  static async over(objects: ObjectStore, root: DirNode = EMPTY_ROOT): Promise<TreeDraft> {
    return new TreeDraft(objects, await opened(objects, root), root.entries);
  }

  /** Of the whole tree, directories included. */
  get entries(): number {
    return this.#entries;
  }

  async get(names: readonly string[]): Promise<TreeNode | undefined> {
    const dir = await this.#find(names.slice(0, -1));
    const node = dir?.entries.get(names.at(-1) ?? "");
    return node?.kind === "open" ? asNode(node) : node;
  }

  /** Whether the directory is there and holds nothing. */
  async isEmpty(names: readonly string[]): Promise<boolean> {
    return (await this.#find(names))?.entries.size === 0;
  }

  /**
   * Puts a file or link; directories above are made. An old file or link goes, unless it must not (`fresh`).
   * Throws `PathTakenError` when a directory stands there, or a file above.
   */
  async put(names: readonly string[], node: Exclude<TreeNode, DirNode>, options: { readonly fresh?: boolean } = {}): Promise<void> {
    const dir = await this.#make(names.slice(0, -1));
    const name = names.at(-1) ?? "";
    const old = dir.entries.get(name);
    if (old?.kind === "open" || old?.kind === "dir") throw new PathTakenError("a directory stands there");
    if (old !== undefined && options.fresh === true) throw new PathTakenError("it is there already");
    if (old === undefined) this.#entries += 1;
    dir.entries.set(name, node);
  }

  /** Makes a directory, or gives one that is there these attributes. */
  async putDir(names: readonly string[], attributes: Pick<DirNode, "mode" | "seconds" | "ns">): Promise<void> {
    Object.assign(await this.#make(names), { mode: attributes.mode, seconds: attributes.seconds, ns: attributes.ns });
  }

  /** False: nothing was there. With all below it, if it is a directory. */
  async remove(names: readonly string[]): Promise<boolean> {
    const dir = await this.#find(names.slice(0, -1));
    const node = dir?.entries.get(names.at(-1) ?? "");
    if (dir === undefined || node === undefined) return false;
    dir.entries.delete(names.at(-1) ?? "");
    this.#entries -= 1 + countOf(node);
    return true;
  }

  /** Stores the listings; the tree under the answer's hash is whole. */
  async write(): Promise<DirNode> {
    return await this.#written(this.#root);
  }

  async #written(dir: OpenDir): Promise<DirNode> {
    const listing: [string, TreeNode][] = [];
    let [bytes, files, entries] = [0, 0, dir.entries.size];
    for (const [name, child] of dir.entries) {
      const node = child.kind === "open" ? await this.#written(child) : child;
      listing.push([name, node]);
      if (node.kind === "dir") [bytes, files, entries] = [bytes + node.bytes, files + node.files, entries + node.entries];
      if (node.kind === "file") [bytes, files] = [bytes + node.size, files + 1];
    }
    const hash = await this.#objects.putListing(listing);
    return { kind: "dir", mode: dir.mode, seconds: dir.seconds, ns: dir.ns, hash, bytes, files, entries };
  }

  async #find(names: readonly string[]): Promise<OpenDir | undefined> {
    let dir = this.#root;
    for (const name of names) {
      const below = dir.entries.get(name);
      if (below === undefined || below.kind === "file" || below.kind === "link") return undefined;
      dir = await this.#opened(dir, name, below);
    }
    return dir;
  }

  async #make(names: readonly string[]): Promise<OpenDir> {
    let dir = this.#root;
    for (const name of names) {
      const below = dir.entries.get(name);
      if (below?.kind === "file" || below?.kind === "link") throw new PathTakenError(`a ${below.kind} stands above it`);
      if (below === undefined) {
        const made: OpenDir = { kind: "open", ...MADE_DIR, entries: new Map() };
        dir.entries.set(name, made);
        this.#entries += 1;
        dir = made;
      } else dir = await this.#opened(dir, name, below);
    }
    return dir;
  }

  async #opened(parent: OpenDir, name: string, below: DirNode | OpenDir): Promise<OpenDir> {
    if (below.kind === "open") return below;
    const open = await opened(this.#objects, below);
    parent.entries.set(name, open);
    return open;
  }
}

async function opened(objects: ObjectStore, { hash, mode, seconds, ns }: DirNode): Promise<OpenDir> {
  const listing: Listing = hash === EMPTY_LISTING ? new Map() : await objects.getListing(hash);
  return { kind: "open", mode, seconds, ns, entries: new Map(listing) };
}

function countOf(node: TreeNode | OpenDir): number {
  if (node.kind === "dir") return node.entries;
  if (node.kind !== "open") return 0;
  let count = 0;
  for (const child of node.entries.values()) count += 1 + countOf(child);
  return count;
}

/** For a look at one entry: hash and sums of an open directory are not known before it is written. */
function asNode({ mode, seconds, ns }: OpenDir): DirNode {
  return { kind: "dir", mode, seconds, ns, hash: "", bytes: 0, files: 0, entries: 0 };
}
