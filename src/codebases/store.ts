// The codebases of one data directory on disk: a store of objects for each owner, and the sweep of what no version needs any more.
// Which versions there are stands in the database (src/store); the order is blobs, listings, row, so a row never names what is not
// there, and what has no row is swept. Invariant: nothing is removed that a version or an upload under way can reach.

import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { MAX_CODEBASE_BYTES_PER_OWNER } from "../api/limits.ts";
import { Gate } from "./gate.ts";
import type { DirNode } from "./nodes.ts";
import { EMPTY_LISTING, ObjectStore } from "./objects.ts";

export interface OwnerObjects {
  readonly objects: ObjectStore;
  /** Directory for uploads under way. */
  readonly uploads: string;
}

interface Owner extends OwnerObjects {
  readonly gate: Gate;
}

export interface CodebaseStoreOptions {
  /** Bytes that an owner's blobs may take. */
  readonly quotaBytes?: number;
}

export class CodebaseStore {
  readonly #root: string;
  readonly #quotaBytes: number;
  readonly #owners = new Map<string, Owner>();

  constructor(root: string, { quotaBytes = MAX_CODEBASE_BYTES_PER_OWNER }: CodebaseStoreOptions = {}) {
    this.#root = root;
    this.#quotaBytes = quotaBytes;
    mkdirSync(root, { recursive: true, mode: 0o700 });
  }

  /** For reading what a version holds: as long as its row is there, it is. */
  of(ownerId: string): OwnerObjects {
    return this.#owner(ownerId);
  }

  /** Nothing is swept until `act` is done: what it puts has time to become a version. */
  async writing<T>(ownerId: string, act: (owner: OwnerObjects) => Promise<T>): Promise<T> {
    const owner = this.#owner(ownerId);
    return await owner.gate.shared(() => act(owner));
  }

  /** Removes what cannot be reached from the roots; `roots` is asked when nobody writes any more. */
  async sweep(ownerId: string, roots: (owner: OwnerObjects) => Promise<readonly string[]>): Promise<void> {
    const owner = this.#owner(ownerId);
    await owner.gate.alone(async () => {
      const needed = { blobs: new Set<string>(), listings: new Set<string>() };
      for (const root of await roots(owner)) await mark(owner.objects, root, needed);
      await owner.objects.sweep(needed);
    });
  }

  /** Removes the stores of owners who are not among these. */
  async forgetOthers(ownerIds: readonly string[]): Promise<void> {
    const known = new Set(ownerIds.map(directoryOf));
    for (const name of await readdir(this.#root)) if (!known.has(name)) await rm(join(this.#root, name), { recursive: true, force: true });
  }

  /** Whether a directory holds the stores, or lies in them. */
  overlaps(dir: string): boolean {
    const slashed = (path: string): string => `${path}/`.replace(/\/+$/, "/");
    return slashed(this.#root).startsWith(slashed(dir)) || slashed(dir).startsWith(slashed(this.#root));
  }

  #owner(ownerId: string): Owner {
    let owner = this.#owners.get(ownerId);
    if (owner === undefined) {
      const dir = join(this.#root, directoryOf(ownerId));
      owner = { objects: new ObjectStore(dir, this.#quotaBytes), uploads: join(dir, "uploads"), gate: new Gate() };
      this.#owners.set(ownerId, owner);
    }
    return owner;
  }
}

/** SAFETY: an owner's name may be `..` or hold a slash one day; a hash of it cannot. */
function directoryOf(ownerId: string): string {
  return createHash("sha256").update(ownerId).digest("hex").slice(0, 32);
}

interface Needed {
  readonly blobs: Set<string>;
  readonly listings: Set<string>;
}

async function mark(objects: ObjectStore, listing: string, needed: Needed): Promise<void> {
  if (listing === EMPTY_LISTING || needed.listings.has(listing)) return;
  needed.listings.add(listing);
  for (const node of (await objects.getListing(listing)).values()) {
    if (node.kind === "file") needed.blobs.add(node.hash);
    if (node.kind === "dir") await mark(objects, node.hash, needed);
  }
}

/** A tree as the row of its version tells it. */
export interface TreeSums {
  readonly root: string;
  readonly bytes: number;
  readonly files: number;
  readonly entries: number;
}

export function rootNode({ root, bytes, files, entries }: TreeSums): DirNode {
  return { kind: "dir", mode: 0o755, seconds: 0, ns: 0, hash: root, bytes, files, entries };
}
