// Joins a walk of a codebase with a compiled policy: decides what stands in the mask, with which mode, owner and time.
// It touches no disk and writes no bytes; it calls a sink, entry by entry, in the order of the walk.
// Invariant: what it tells the sink is a function of the policy and of the visible entries alone. A hidden entry changes no
// name, count, mode, owner, size or time of anything visible: that is what keeps it hidden.

import { CorralError } from "../api/errors.ts";
import type { Permission } from "../api/policy.ts";
import { printable } from "../policy/bytes.ts";
import type { CompiledPolicy, PolicyState } from "../policy/compile.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

/** Time of an entry: whole seconds and the rest. An entry of a walk is one. */
export interface Time {
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
}

export interface Attributes {
  /** Belongs to the sandbox's user; everything else belongs to an id that no sandbox maps. */
  readonly own: boolean;
  readonly mode: number;
}

export interface FileAttributes extends Attributes {
  /** May be read, so the entry leads to the codebase's file. */
  readonly content: boolean;
  /** Where that lies, when not at the entry's own path. */
  readonly place?: string;
}

/** Receives a mask in depth-first order. Names and paths are latin1. */
export interface PlanSink {
  enter(name: string): void;
  file(name: string, attributes: FileAttributes, size: number, time: Time): void;
  link(name: string, attributes: Attributes, target: string, time: Time): void;
  leave(attributes: Attributes, time: Time): void;
}

export interface PlannerOptions {
  /** Directories in the root (`/output`) that are made when the codebase has no such entry and the policy lets them be written. */
  readonly presetDirs?: readonly string[];
  /** A user namespace cannot make a layer of a tree in which something is mounted, be it hidden: told before the mount fails. */
  readonly refuseMounts?: boolean;
}

export interface PlanNotes {
  /** Of the root directory. */
  readonly root: Attributes;
  readonly visible: number;
  readonly hidden: number;
  /** For the person who starts the sandbox; never shown inside. */
  readonly remarks: readonly string[];
}

const EPOCH: Time = { mtimeSeconds: 0, mtimeNs: 0 };
const ENOENT = 2;
/** What an entry that was removed or replaced while the walk went by looks like. */
const VANISHED: ReadonlySet<number> = new Set([ENOENT, 20 /* ENOTDIR */, 40 /* ELOOP */, 116 /* ESTALE */]);
/** Longest path, in bytes, that the kernel takes, its NUL aside. */
const MAX_PATH = 4095;

interface Frame {
  readonly name: string;
  /** Length of the directory's path in bytes. */
  readonly length: number;
  /** A hidden directory in which nothing can be open, or one that is not listed. */
  readonly skipped: boolean;
  readonly state: PolicyState;
  readonly permission: Permission;
  /** Set when every entry below has the directory's own level. */
  readonly uniform: boolean;
  time: Time;
  /** Told to the sink. A passage is told when the first visible thing below it is met. */
  entered: boolean;
  /** Holds something that is visible and not `write`. */
  mixed: boolean;
  /** Verdict of each subdirectory by its index in the listing. */
  readonly children: Map<number, Child>;
}

interface Child {
  readonly state: PolicyState;
  readonly permission: Permission;
  readonly entry: WalkEntry;
}

interface Count {
  count: number;
  first: string;
}

export class Planner {
  readonly #policy: CompiledPolicy;
  readonly #sink: PlanSink;
  readonly #presetDirs: ReadonlySet<string>;
  readonly #refuseMounts: boolean;
  readonly #stack: Frame[] = [];
  #root: Attributes = { own: false, mode: 0o755 };
  #visible = 0;
  #hidden = 0;
  #special: Count = { count: 0, first: "" };
  #mounts: Count = { count: 0, first: "" };
  #long: Count = { count: 0, first: "" };

  constructor(policy: CompiledPolicy, sink: PlanSink, options: PlannerOptions = {}) {
    this.#policy = policy;
    this.#sink = sink;
    this.#presetDirs = new Set((options.presetDirs ?? []).map((dir) => dir.slice(1)).filter((name) => name !== "" && !name.includes("/")));
    this.#refuseMounts = options.refuseMounts ?? false;
  }

  /** Throws `codebase_unreadable` when something visible cannot be read. */
  take(events: readonly WalkEvent[]): void {
    for (const event of events) {
      if (event.event === "dir") this.#dir(event);
      else this.#leave();
    }
  }

  notes(): PlanNotes {
    const remarks: string[] = [];
    const remark = (what: Count, one: string, many: string): void => {
      if (what.count > 0) remarks.push(`${what.count} ${what.count === 1 ? one : many}; the first is ${printable(what.first)}`);
    };
    remark(
      this.#special,
      "FIFO, socket or device is shown as an empty file without rights",
      "FIFOs, sockets and devices are shown as empty files without rights",
    );
    remark(
      this.#mounts,
      "directory on which something is mounted is shown empty",
      "directories on which something is mounted are shown empty",
    );
    remark(
      this.#long,
      "entry is left out: its path is longer than 4095 bytes",
      "entries are left out: their paths are longer than 4095 bytes",
    );
    return { root: this.#root, visible: this.#visible, hidden: this.#hidden, remarks };
  }

  #dir(event: Extract<WalkEvent, { event: "dir" }>): void {
    const parent = this.#stack.at(-1);
    const frame = parent === undefined ? this.#rootFrame() : this.#childFrame(parent, event.index, event.entry.name);
    this.#stack.push(frame);
    if (this.#refuseMounts) refuseMounts(event.path, event.entries);
    if (frame.skipped) {
      this.#hidden += event.entries.length;
      return;
    }
    if (event.errno !== 0 && !VANISHED.has(event.errno)) throw unreadable(event.path, event.errno);
    if (parent === undefined || frame.permission !== "none") this.#enter();
    this.#list(frame, event.path, event.entries);
  }

  #rootFrame(): Frame {
    const state = this.#policy.root;
    const permission = this.#policy.permissionOf(state);
    return this.#frame("", 0, { state, permission }, EPOCH);
  }

  #childFrame(parent: Frame, index: number, name: string): Frame {
    const child = parent.children.get(index);
    const length = parent.length + 1 + name.length;
    if (child === undefined) return { ...this.#frame(name, length, parent, parent.time), skipped: true };
    return this.#frame(name, length, child, parent.time);
  }

  #frame(name: string, length: number, at: { state: PolicyState; permission: Permission }, time: Time): Frame {
    const uniform = !this.#policy.mayOpenBelow(at.state);
    return {
      name,
      length,
      skipped: false,
      state: at.state,
      permission: at.permission,
      uniform,
      time,
      entered: false,
      mixed: false,
      children: new Map(),
    };
  }

  /** Judges a listing: first the time that it gives the directory, then its files; directories wait for their own listing. */
  #list(frame: Frame, path: string, entries: readonly WalkEntry[]): void {
    const shown: WalkEntry[] = [];
    const levels: Permission[] = [];
    let newest: Time | undefined;
    let index = -1;
    for (const entry of entries) {
      index++;
      const isDir = entry.kind === "dir";
      const state = frame.uniform ? frame.state : this.#policy.step(frame.state, entry.name, entry.kind);
      const permission = frame.uniform ? frame.permission : this.#policy.permissionOf(state);
      if (permission === "none" && !(isDir && !frame.uniform && this.#policy.mayLead(state))) {
        this.#hidden++;
        continue;
      }
      if (!this.#usable(frame, path, entry)) continue;
      if (isDir) {
        frame.children.set(index, { state, permission, entry });
        continue;
      }
      shown.push(entry);
      levels.push(permission);
      if (newest === undefined || later(entry, newest)) newest = entry;
    }
    // The directory's own time would tell when something hidden came or went: it shows that of its newest visible file, or its parent's.
    if (newest !== undefined) frame.time = newest;
    if (shown.length > 0) this.#enter();
    for (let i = 0; i < shown.length; i++) this.#leaf(frame, path, shown[i] as WalkEntry, levels[i] as Permission);
    for (const child of frame.children.values()) if (child.entry.mountPoint) this.#mount(frame, path, child);
    if (this.#stack.length === 1) this.#makeMissing(frame, entries);
  }

  /** False when the entry is gone, or cannot be named. Throws when it is there and cannot be read. */
  #usable(frame: Frame, path: string, entry: WalkEntry): boolean {
    if (entry.errno !== 0) {
      if (VANISHED.has(entry.errno)) return false;
      throw unreadable(`${path}/${entry.name}`, entry.errno);
    }
    if (frame.length + 1 + entry.name.length <= MAX_PATH) return true;
    tally(this.#long, path, entry.name);
    return false;
  }

  #leaf(frame: Frame, path: string, entry: WalkEntry, permission: Permission): void {
    const own = permission === "write";
    if (!own) frame.mixed = true;
    this.#visible++;
    if (entry.kind === "link") {
      this.#sink.link(entry.name, { own, mode: shownMode(entry, permission) }, entry.target, entry);
    } else if (entry.kind === "other") {
      // SAFETY: a FIFO, socket or device of the codebase would join the sandbox with the host, or with other sandboxes.
      tally(this.#special, path, entry.name);
      this.#sink.file(entry.name, { own, mode: shownMode(entry, permission), content: false }, 0, entry);
    } else {
      const { name, place } = entry;
      const attributes = { own, mode: shownMode(entry, permission), content: permission !== "view" };
      this.#sink.file(name, place === undefined ? attributes : { ...attributes, place }, entry.size, entry);
    }
  }

  /** What is mounted in a codebase is not in the layer that the kernel reads: an empty directory, which nobody may fill. */
  #mount(frame: Frame, path: string, child: Child): void {
    if (child.permission === "none") return;
    tally(this.#mounts, path, child.entry.name);
    this.#enter();
    this.#visible++;
    frame.mixed = true;
    this.#sink.enter(child.entry.name);
    this.#sink.leave({ own: false, mode: 0o755 }, frame.time);
  }

  #makeMissing(root: Frame, entries: readonly WalkEntry[]): void {
    const taken = new Set(entries.map((entry) => entry.name));
    for (const name of this.#presetDirs) {
      if (taken.has(name) || this.#policy.permissionOf(this.#policy.step(root.state, name, "dir")) !== "write") continue;
      this.#sink.enter(name);
      this.#sink.leave({ own: true, mode: 0o755 }, root.time);
    }
  }

  /** Tells the sink of the directory at hand, and of the passages that lead to it. */
  #enter(): void {
    let first = this.#stack.length;
    while (first > 0 && !(this.#stack[first - 1] as Frame).entered) first--;
    for (const frame of this.#stack.slice(first)) {
      frame.entered = true;
      this.#visible++;
      this.#sink.enter(frame.name);
    }
  }

  #leave(): void {
    const frame = this.#stack.pop();
    if (frame === undefined) throw new CorralError("internal", "a plan left a directory that it did not enter");
    if (!frame.entered) {
      if (!frame.skipped) this.#hidden++;
      return;
    }
    const parent = this.#stack.at(-1);
    const write = frame.permission === "write";
    if (parent !== undefined && (!write || frame.mixed)) parent.mixed = true;
    const attributes = dirAttributes(write, frame.mixed);
    if (parent === undefined) this.#root = attributes;
    this.#sink.leave(attributes, frame.time);
  }
}

function refuseMounts(path: string, entries: readonly WalkEntry[]): void {
  const mounted = entries.find((entry) => entry.mountPoint);
  if (mounted === undefined) return;
  const shown = printable(`${path}/${mounted.name}`);
  throw new CorralError(
    "codebase_unreadable",
    `something is mounted at ${shown} of the codebase, and without root no view can be made over it; unmount it, or run Corral as root`,
    {
      details: { path: shown },
    },
  );
}

function later(time: Time, than: Time): boolean {
  return time.mtimeSeconds > than.mtimeSeconds || (time.mtimeSeconds === than.mtimeSeconds && time.mtimeNs > than.mtimeNs);
}

/**
 * The permission bits that an entry of the codebase shows under a level; a directory at `write` may show 1777 instead (it holds
 * something below `write`). Execute bits are content: they come with `read`. Set-id bits never pass.
 */
export function shownMode(entry: WalkEntry, permission: Permission): number {
  if (entry.kind === "link") return 0o777;
  if (entry.kind === "dir") return 0o755;
  if (entry.kind === "other" || permission === "none" || permission === "view") return 0;
  if (permission === "write") return (entry.mode & 0o777) | 0o400;
  return (entry.mode & 0o111) !== 0 ? 0o555 : 0o444;
}

/**
 * Who may make, remove and rename entries: the owner where all of them are `write`; where something visible is not, everybody,
 * but only what is theirs (sticky); elsewhere nobody.
 */
function dirAttributes(write: boolean, mixed: boolean): Attributes {
  if (!write) return { own: false, mode: 0o755 };
  return mixed ? { own: false, mode: 0o1777 } : { own: true, mode: 0o755 };
}

function tally(what: Count, path: string, name: string): void {
  if (what.count === 0) what.first = `${path}/${name}`;
  what.count++;
}

/** Paths inside the codebase may be told: the caller named the directory. */
export function unreadable(path: string, errno: number): CorralError {
  const shown = printable(path === "" ? "/" : path);
  const why = errno === 13 || errno === 1 ? "permission denied" : `errno ${errno}`;
  return new CorralError(
    "codebase_unreadable",
    `cannot read ${shown} of the codebase: ${why}; make it readable or hide it by a rule (none)`,
    {
      details: { path: shown, errno },
    },
  );
}
