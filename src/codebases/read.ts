// Reads a stored tree: one entry, one directory, all of it in order, and the walk that a view is made from. It changes nothing.
// Invariant: entries come sorted by bytes, a directory before what is in it; the walk tells exactly what a walk over such a directory
// on disk would, so a mask made from it is the same.

import { tarEnd, tarHeader, tarPadding } from "../base/tar-writer.ts";
import type { WalkEntry, WalkEvent } from "../view/walk.ts";
import { blobPlace, type DirNode, type FileNode, type Listing, type TreeNode } from "./nodes.ts";
import { EMPTY_LISTING, type ObjectStore } from "./objects.ts";

export async function listingOf(objects: ObjectStore, { hash }: DirNode): Promise<Listing> {
  return hash === EMPTY_LISTING ? new Map() : await objects.getListing(hash);
}

/** `undefined`: nothing stands there. No link is followed. */
export async function findNode(objects: ObjectStore, root: DirNode, names: readonly string[]): Promise<TreeNode | undefined> {
  let node: TreeNode | undefined = root;
  for (const name of names) {
    if (node?.kind !== "dir") return undefined;
    node = (await listingOf(objects, node)).get(name);
  }
  return node;
}

/** Links on the way are followed inside of the tree. Each step may read a listing, and a tree is hostile: real paths take a dozen. */
const MAX_STEPS = 128;

export async function readSmall(
  objects: ObjectStore,
  root: DirNode,
  { path, most }: { readonly path: string; readonly most: number },
): Promise<Buffer | undefined> {
  const node = await followLinks(objects, root, path);
  if (node?.kind !== "file" || node.size > most) return undefined;
  const pieces: Buffer[] = [];
  for await (const chunk of objects.readBlob(node.hash)) pieces.push(chunk as Buffer);
  return Buffer.concat(pieces);
}

/** `undefined`: nothing stands there, or too many steps lead to it. */
export async function followLinks(objects: ObjectStore, root: DirNode, path: string): Promise<TreeNode | undefined> {
  let left = path.split("/");
  let above: readonly DirNode[] = [root];
  for (let steps = 0; steps < MAX_STEPS; steps++) {
    const [name = "", ...rest] = left;
    const dir = above.at(-1);
    if (dir === undefined) return undefined;
    if (name === "" && rest.length === 0) return dir;
    left = rest;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      above = above.length > 1 ? above.slice(0, -1) : above;
      continue;
    }
    const node = (await listingOf(objects, dir)).get(name);
    if (node?.kind === "link") {
      left = [...node.target.split("/"), ...rest];
      if (node.target.startsWith("/")) above = [root];
    } else if (node?.kind === "dir") above = [...above, node];
    else return rest.every((next) => next === "") ? node : undefined;
  }
  return undefined;
}

export interface PlacedNode {
  /** latin1, relative. */
  readonly path: string;
  readonly node: TreeNode;
}

export interface Below {
  /** Of the directory itself. */
  readonly path: string;
  /** False: its own entries alone. */
  readonly deep: boolean;
  /** Names of the entry behind which it begins, below the directory. */
  readonly after?: readonly string[];
}

/** Everything below `dir`, in order. */
export async function* entriesBelow(objects: ObjectStore, dir: DirNode, at: Below): AsyncGenerator<PlacedNode> {
  const [first, ...rest] = at.after ?? [];
  for (const [name, node] of await listingOf(objects, dir)) {
    if (first !== undefined && name < first) continue;
    const path = at.path === "" ? name : `${at.path}/${name}`;
    const isPassed = name === first;
    if (!isPassed) yield { path, node };
    if (node.kind === "dir" && at.deep) yield* entriesBelow(objects, node, { path, deep: true, ...(isPassed ? { after: rest } : {}) });
  }
}

export async function* tarOf(objects: ObjectStore, root: DirNode): AsyncGenerator<Uint8Array> {
  for await (const { path, node } of entriesBelow(objects, root, { path: "", deep: true })) {
    const common = { path, mtimeSeconds: node.seconds, mtimeNs: node.ns };
    if (node.kind === "dir") yield tarHeader({ ...common, type: "dir", mode: node.mode, size: 0 });
    else if (node.kind === "link") yield tarHeader({ ...common, type: "link", mode: 0o777, size: 0, target: node.target });
    else yield* tarFile(objects, path, node);
  }
  yield tarEnd();
}

async function* tarFile(objects: ObjectStore, path: string, { mode, seconds, ns, size, hash }: FileNode): AsyncGenerator<Uint8Array> {
  yield tarHeader({ path, type: "file", mode, mtimeSeconds: seconds, mtimeNs: ns, size });
  for await (const chunk of objects.readBlob(hash)) yield chunk as Buffer;
  yield tarPadding(size);
}

/** As `view/` reads a directory on disk; each file says where its content lies among the blobs. */
export async function* walkEvents(objects: ObjectStore, root: DirNode): AsyncGenerator<WalkEvent[]> {
  let batch: WalkEvent[] = [];
  for await (const event of eventsBelow(objects, { dir: root, name: "", path: "", index: 0 })) {
    batch.push(event);
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

const BATCH = 256;

interface At {
  readonly dir: DirNode;
  readonly name: string;
  readonly path: string;
  readonly index: number;
}

async function* eventsBelow(objects: ObjectStore, { dir, name, path, index }: At): AsyncGenerator<WalkEvent> {
  const listing = [...(await listingOf(objects, dir))];
  yield { event: "dir", path, entry: entryOf(name, dir), index, errno: 0, entries: listing.map(([child, node]) => entryOf(child, node)) };
  for (const [place, [child, node]] of listing.entries())
    if (node.kind === "dir") yield* eventsBelow(objects, { dir: node, name: child, path: `${path}/${child}`, index: place });
  yield { event: "leave", path };
}

const TYPE_BITS = { file: 0o100000, dir: 0o040000, link: 0o120000 } as const;

/** What a walk does not tell of directories, and what no stored entry has, is 0. */
function entryOf(name: string, node: TreeNode): WalkEntry {
  const [seconds, ns] = node.kind === "dir" ? [0, 0] : [node.seconds, node.ns];
  return {
    name,
    kind: node.kind,
    errno: 0,
    mode: TYPE_BITS[node.kind] | (node.kind === "link" ? 0o777 : node.mode),
    uid: 0,
    gid: 0,
    nlink: node.kind === "dir" ? 0 : 1,
    size: node.kind === "file" ? node.size : node.kind === "link" ? node.target.length : 0,
    ino: 0,
    mtimeSeconds: seconds,
    mtimeNs: ns,
    ctimeSeconds: 0,
    ctimeNs: 0,
    rdevMajor: 0,
    rdevMinor: 0,
    mountPoint: false,
    target: node.kind === "link" ? node.target : "",
    ...(node.kind === "file" ? { place: blobPlace(node.hash) } : {}),
  };
}
