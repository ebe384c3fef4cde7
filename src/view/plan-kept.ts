// Remembers of a mask tree what each directory lists, so that a later plan changes only what differs. It holds hashes, no entries.
// Only for masks that are trees: an image is always written anew.
// Invariant: what is kept is the plan, not the walk. A hidden entry that comes or goes leaves every hash as it was, so it makes no
// directory new, and its inode numbers tell nothing.

import { createHash } from "node:crypto";
import type { Attributes, FileAttributes, PlanSink, Time } from "./plan.ts";
import { PlanBytes } from "./plan-bytes.ts";

/** A directory of a mask: name, hash of its own listing, hash of that and all below with owners and times, directories in it. */
export type KeptDir = readonly [name: string, listing: string, whole: string, dirs: readonly KeptDir[]];

interface Dir {
  readonly name: string;
  records: readonly Buffer[];
  count: number;
  readonly dirs: Dir[];
  attributes: Attributes;
  time: Time;
  listing: string;
  whole: string;
}

/** Above this share of changed directories, a new tree costs less than mending the old. */
const MENDABLE_SHARE = 0.5;
const NOTHING: Attributes = { own: false, mode: 0 };

function hash(parts: readonly (Buffer | string)[]): string {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(part);
  return sum.digest("base64url").slice(0, 22);
}

/** A sink that collects a plan by directory. */
export class PlanTree implements PlanSink {
  readonly #scratch = new PlanBytes();
  readonly #stack: Dir[] = [];
  #before = 0;
  #root: Dir | undefined;

  enter(name: string): void {
    this.#cut();
    const dir: Dir = {
      name,
      records: [],
      count: 0,
      dirs: [],
      attributes: NOTHING,
      time: { mtimeSeconds: 0, mtimeNs: 0 },
      listing: "",
      whole: "",
    };
    this.#stack.at(-1)?.dirs.push(dir);
    this.#root ??= dir;
    this.#stack.push(dir);
  }

  file(name: string, attributes: FileAttributes, size: number, time: Time): void {
    this.#scratch.file(name, attributes, size, time);
  }

  link(name: string, attributes: Attributes, target: string, time: Time): void {
    this.#scratch.link(name, attributes, target, time);
  }

  leave(attributes: Attributes, time: Time): void {
    this.#cut();
    const dir = this.#stack.pop() as Dir;
    dir.attributes = attributes;
    dir.time = time;
    dir.listing = hash([...dir.records, "\0", ...dir.dirs.map((child) => `${child.name}/`)]);
    dir.whole = hash([
      dir.listing,
      `${attributes.own} ${attributes.mode} ${time.mtimeSeconds}.${time.mtimeNs}`,
      ...dir.dirs.map((child) => child.whole),
    ]);
  }

  /** Gives the records since the last cut to the directory at hand. */
  #cut(): void {
    const dir = this.#stack.at(-1);
    const records = this.#scratch.cut();
    if (dir !== undefined && records.length > 0) {
      dir.records = [...dir.records, ...records];
      dir.count += this.#scratch.records - this.#before;
    }
    this.#before = this.#scratch.records;
  }

  kept(): KeptDir | undefined {
    const keep = (dir: Dir): KeptDir => [dir.name, dir.listing, dir.whole, dir.dirs.map(keep)];
    return this.#root === undefined ? undefined : keep(this.#root);
  }

  /** Whether mending a mask that looks like `old` is worth it. */
  isMendable(old: KeptDir): boolean {
    if (this.#root === undefined) return false;
    const count = { all: 0, changed: 0 };
    const look = (dir: Dir, was: KeptDir | undefined): void => {
      count.all++;
      if (was?.[1] !== dir.listing) count.changed++;
      const before = byName(was);
      for (const child of dir.dirs) look(child, before.get(child.name));
    };
    look(this.#root, old);
    return count.changed <= count.all * MENDABLE_SHARE;
  }

  /** The plan that makes a mask that looks like `old` into this one; without `old`, one that makes it from nothing. */
  *write(old: KeptDir | undefined): Generator<Buffer> {
    const bytes = new PlanBytes();
    if (this.#root !== undefined) yield* mend(bytes, this.#root, old);
    bytes.end();
    yield* bytes.take(true);
  }
}

function byName(dir: KeptDir | undefined): ReadonlyMap<string, KeptDir> {
  return new Map((dir?.[3] ?? []).map((child) => [child[0], child]));
}

function* mend(bytes: PlanBytes, dir: Dir, old: KeptDir | undefined): Generator<Buffer> {
  const same = old?.[1] === dir.listing;
  bytes.enter(dir.name, old === undefined ? "fresh" : same ? "same" : "changed");
  if (!same) bytes.append(dir.records, dir.count);
  const before = byName(old);
  for (const child of dir.dirs) {
    const was = before.get(child.name);
    if (was?.[2] === child.whole) bytes.keep(child.name);
    else yield* mend(bytes, child, was);
  }
  bytes.leave(dir.attributes, dir.time);
  yield* bytes.take(false);
}
