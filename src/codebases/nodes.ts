// What stands in a version of a codebase: files by the hash of their content, directories by the hash of their listing, links. Turns a
// listing into bytes and back. No disk. Names and targets are latin1, one character a byte.
// Invariant: one listing has one spelling, so equal trees have equal hashes; bytes that are not such a spelling are refused.

import { CorralError } from "../api/errors.ts";

interface Times {
  readonly seconds: number;
  readonly ns: number;
}

export interface FileNode extends Times {
  readonly kind: "file";
  /** Nine bits. */
  readonly mode: number;
  readonly size: number;
  /** SHA-256 of the content, hex. */
  readonly hash: string;
}

export interface LinkNode extends Times {
  readonly kind: "link";
  readonly target: string;
}

export interface DirNode extends Times {
  readonly kind: "dir";
  readonly mode: number;
  /** SHA-256 of its listing, hex. */
  readonly hash: string;
  /** Of all below it. */
  readonly bytes: number;
  readonly files: number;
  readonly entries: number;
}

export type TreeNode = FileNode | LinkNode | DirNode;
/** Sorted by bytes. */
export type Listing = ReadonlyMap<string, TreeNode>;

const MAX_NAME = 255;
const MAX_PATH = 4_095;

export function isHash(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

export function isName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && name.length <= MAX_NAME && !name.includes("/") && !name.includes("\0");
}

/**
 * The names of a path from outside, relative to the root; one `/` before or behind it and `.` between are no names. `undefined` for one
 * that climbs, is too long, or holds what no name may.
 */
export function namesOfPath(path: string): readonly string[] | undefined {
  if (path.length > MAX_PATH) return undefined;
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return names.every(isName) ? names : undefined;
}

/** Where a file's content lies below the directory of blobs. */
export function blobPlace(hash: string): string {
  return `/${hash.slice(0, 2)}/${hash.slice(2)}`;
}

export function encodeListing(listing: Iterable<readonly [string, TreeNode]>): Buffer {
  const sorted = [...listing].sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.from(sorted.map(([name, node]) => `${JSON.stringify(lineOf(name, node))}\n`).join(""));
}

type Line = readonly [kind: string, name: string, seconds: number, ns: number, ...rest: readonly (string | number)[]];

function lineOf(name: string, node: TreeNode): Line {
  const { seconds, ns } = node;
  if (node.kind === "file") return ["f", name, seconds, ns, node.mode, node.size, node.hash];
  if (node.kind === "link") return ["l", name, seconds, ns, node.target];
  return ["d", name, seconds, ns, node.mode, node.hash, node.bytes, node.files, node.entries];
}

/** Throws when the bytes are no listing: they come from our own disk, so it is damaged. */
export function decodeListing(bytes: Buffer): Listing {
  const listing = new Map<string, TreeNode>();
  for (const text of bytes.toString("utf8").split("\n")) {
    if (text === "") continue;
    const [kind, name, seconds, ns, ...rest] = JSON.parse(text) as Line;
    if (!isName(name)) throw new CorralError("internal", "a listing of a codebase holds a name that is none; its disk is damaged");
    listing.set(name, nodeOf(kind, { seconds, ns }, rest));
  }
  return listing;
}

function nodeOf(kind: string, times: Times, rest: readonly (string | number)[]): TreeNode {
  const [first, second, third, fourth, fifth] = rest;
  if (kind === "f") return { kind: "file", ...times, mode: first as number, size: second as number, hash: third as string };
  if (kind === "l") return { kind: "link", ...times, target: first as string };
  return {
    kind: "dir",
    ...times,
    mode: first as number,
    hash: second as string,
    bytes: third as number,
    files: fourth as number,
    entries: fifth as number,
  };
}
/** Times aside: what a person would call the same. */
export function sameContent(a: TreeNode | undefined, b: TreeNode | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.kind === "file") return b.kind === "file" && a.hash === b.hash && a.mode === b.mode;
  if (a.kind === "link") return b.kind === "link" && a.target === b.target;
  return b.kind === "dir";
}
