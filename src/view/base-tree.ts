// What the base held when the sandbox began, as far as a delta asks for it: listings of the directories that the delta touches and of
// the trees that it removes, moves or hides. Read from the manifest that was kept at the start, never from the live directory.
// Invariant: only what was asked for stays in memory; a directory that is not in the manifest is not there.

import type { Rebased } from "./kept.ts";
import type { Signature } from "./stage.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

export interface Wanted {
  /** Directories whose own listing is needed. */
  readonly dirs: ReadonlySet<string>;
  /** Paths of which everything below is needed. */
  readonly trees: ReadonlySet<string>;
}

export interface BaseTree {
  readonly root: WalkEntry | undefined;
  /** Entries of a directory, sorted by bytes; empty when it is not there. */
  list(path: string): readonly WalkEntry[];
  get(path: string): WalkEntry | undefined;
  /** Whether the listing of the directory was asked for and is here. */
  isListed(path: string): boolean;
}

export async function readBase(manifest: AsyncIterable<readonly WalkEvent[]>, wanted: Wanted): Promise<BaseTree> {
  const lists = new Map<string, readonly WalkEntry[]>();
  let root: WalkEntry | undefined;
  /** Length of the stack of open directories at which a wanted tree began; 0: in none. */
  let wholeFrom = 0;
  let depth = 0;
  for await (const batch of manifest) {
    for (const event of batch) {
      if (event.event === "leave") {
        if (depth === wholeFrom) wholeFrom = 0;
        depth -= 1;
        continue;
      }
      depth += 1;
      if (depth === 1) root = event.entry;
      if (wholeFrom === 0 && wanted.trees.has(event.path)) wholeFrom = depth;
      if (wholeFrom > 0 || wanted.dirs.has(event.path)) lists.set(event.path, event.entries);
    }
  }
  return { root, list: (path) => lists.get(path) ?? [], get: (path) => find(lists, root, path), isListed: (path) => lists.has(path) };
}

/** What stands now where an earlier commit of the same delta changed the codebase, as if it had been so from the start. */
export function rebasedEntry(path: string, { signature, target }: Rebased): WalkEntry | undefined {
  return signature === undefined ? undefined : entryOf(path.slice(path.lastIndexOf("/") + 1), signature, target);
}

function entryOf(name: string, { kind, mode, size, ino, mtimeNs, ctimeNs }: Signature, target: string): WalkEntry {
  const [mtimeSeconds, mtimeRest] = splitTime(mtimeNs);
  const [ctimeSeconds, ctimeRest] = splitTime(ctimeNs);
  const times = { mtimeSeconds, mtimeNs: mtimeRest, ctimeSeconds, ctimeNs: ctimeRest };
  return {
    name,
    kind,
    errno: 0,
    mode: mode | TYPE_BITS[kind],
    uid: 0,
    gid: 0,
    nlink: 1,
    size,
    ino,
    ...times,
    rdevMajor: 0,
    rdevMinor: 0,
    mountPoint: false,
    target,
  };
}

const TYPE_BITS = { file: 0o100000, dir: 0o040000, link: 0o120000, other: 0 } as const;
const NS = 1_000_000_000n;

function splitTime(ns: bigint): [number, number] {
  const rest = ((ns % NS) + NS) % NS;
  return [Number((ns - rest) / NS), Number(rest)];
}

function find(lists: ReadonlyMap<string, readonly WalkEntry[]>, root: WalkEntry | undefined, path: string): WalkEntry | undefined {
  if (path === "") return root;
  const slash = path.lastIndexOf("/");
  const entries = lists.get(path.slice(0, slash)) ?? [];
  const name = path.slice(slash + 1);
  let low = 0;
  let high = entries.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const entry = entries[middle] as WalkEntry;
    if (entry.name === name) return entry;
    if (entry.name < name) low = middle + 1;
    else high = middle - 1;
  }
  return undefined;
}
