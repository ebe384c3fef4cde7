// Keeps compiled masks on disk, to be shared by sandboxes and used again by later runs. It knows no policy: a mask belongs to a
// lineage (one codebase directory, one policy, one id map) and to a version of it.
//   DIR/<lineage>-<version>/  layer | layer.erofs, stamp.json, kept.json (trees), uses/<pid>-<start>-<random>
//   DIR/.making-…, .gone-…    being made, being removed; swept when their maker is dead
// Invariant: a name without a dot is a whole mask that nobody changes; it is made elsewhere and put there by one rename.

import { readdirSync, readFileSync, mkdirSync, renameSync, rmSync, statSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { identify, isAlive, type ProcessIdentity } from "../base/process-identity.ts";
import { randomText } from "../base/random-text.ts";
import type { Attributes } from "./plan.ts";
import type { RunTool } from "./view.ts";

export type MaskForm = "tree" | "image";

/** What stands beside a mask. */
export interface MaskStamp {
  readonly form: MaskForm;
  /** Signature of the codebase version. */
  readonly signature: string;
  /** Images are not synced: after a crash of the machine they may hold less than was written, so they count for one boot. */
  readonly bootId: string;
  /** Owner and mode of the root directory. */
  readonly root: Attributes;
  readonly visible: number;
  readonly hidden: number;
  readonly remarks: readonly string[];
}

/** A mask that cannot be removed while it is held. */
export interface HeldMask {
  readonly stamp: MaskStamp;
  readonly layer: string;
  /** The file that holds it. Whoever removes it lets the mask go. */
  readonly use: string;
  release(): void;
}

/** A mask being made, or an old one being brought up to date. */
export interface Draft {
  readonly dir: string;
  readonly layer: string;
}

const MAX_MASKS = 64;
/** A mask may be between `hold` and the mount of a sandbox: too fresh to be evicted. */
const YOUNG_MS = 60_000;
const LAYERS: Readonly<Record<MaskForm, string>> = { tree: "layer", image: "layer.erofs" };

export class Masks {
  readonly #dir: string;
  readonly #tool: RunTool;
  readonly #self: ProcessIdentity;
  readonly #holder: () => ProcessIdentity;

  /** `holder`: the process that ends when the sandboxes over its masks do; absent: this one. */
  constructor(dir: string, tool: RunTool, holder?: () => ProcessIdentity) {
    this.#dir = dir;
    this.#tool = tool;
    const self = identify(process.pid);
    if (self === undefined) throw new Error("this process is not in /proc");
    this.#self = self;
    this.#holder = holder ?? ((): ProcessIdentity => self);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** The masks of a lineage, newest first. */
  #versions(lineage: string): string[] {
    const names = readdirSync(this.#dir).filter((name) => name.startsWith(`${lineage}-`));
    const age = (name: string): number => statSync(join(this.#dir, name, "stamp.json"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return names
      .map((name) => ({ name, at: age(name) }))
      .sort((a, b) => b.at - a.at)
      .map(({ name }) => name);
  }

  /** What is known of the lineage's newest mask, before anything is walked. */
  newest(lineage: string): MaskStamp | undefined {
    for (const name of this.#versions(lineage)) {
      const stamp = readStamp(join(this.#dir, name), this.#self.bootId);
      if (stamp !== undefined) return stamp;
    }
    return undefined;
  }

  /** Holds the mask of a version, if it is there and whole. */
  hold(lineage: string, signature: string): HeldMask | undefined {
    const dir = join(this.#dir, nameOf(lineage, signature));
    try {
      // First the use, then the look: whoever takes the mask away looks for uses after he has moved it.
      return this.#held(dir, this.#use(dir));
    } catch {
      return undefined; // no such mask, or it was taken away just now: the caller makes one
    }
  }

  #use(dir: string): string {
    const { pid, startTicks } = this.#holder();
    const name = `${pid}-${startTicks}-${randomText(8)}`;
    writeFileSync(join(dir, "uses", name), "", { flag: "wx", mode: 0o600 });
    return name;
  }

  #held(dir: string, use: string): HeldMask | undefined {
    const file = join(dir, "uses", use);
    const release = (): void => rmSync(file, { force: true });
    const stamp = readStamp(dir, this.#self.bootId);
    if (stamp === undefined) {
      release();
      return undefined;
    }
    utimesSync(join(dir, "stamp.json"), new Date(), new Date());
    return { stamp, layer: join(dir, LAYERS[stamp.form]), use: file, release };
  }

  /** A place to make a mask in. */
  begin(form: MaskForm): Draft {
    const dir = join(this.#dir, this.#ownName("making"));
    mkdirSync(join(dir, "uses"), { recursive: true, mode: 0o700 });
    return { dir, layer: join(dir, LAYERS[form]) };
  }

  /**
   * Takes the lineage's newest tree away from everybody, to bring it up to date; `undefined` when there is none or it is in use.
   * `kept` is what was put beside it.
   */
  takeOld(lineage: string): (Draft & { readonly kept: unknown }) | undefined {
    for (const name of this.#versions(lineage)) {
      const dir = join(this.#dir, name);
      if (readStamp(dir, this.#self.bootId)?.form !== "tree" || isUsed(dir)) continue;
      const taken = join(this.#dir, this.#ownName("making"));
      if (!moved(dir, taken)) continue;
      if (isUsed(taken)) {
        moved(taken, dir); // somebody held it between our two looks
        continue;
      }
      const kept = readJson(join(taken, "kept.json"));
      // From here on it is neither the old mask nor the new one.
      rmSync(join(taken, "stamp.json"), { force: true });
      return { dir: taken, layer: join(taken, LAYERS.tree), kept };
    }
    return undefined;
  }

  /** Puts a finished mask in its place, held. When another process was faster, its mask is held and ours thrown away. */
  async finish(draft: Draft, lineage: string, stamp: MaskStamp, kept?: unknown): Promise<HeldMask | undefined> {
    if (kept !== undefined) writeFileSync(join(draft.dir, "kept.json"), JSON.stringify(kept), { mode: 0o600 });
    writeFileSync(join(draft.dir, "stamp.json"), JSON.stringify(stamp), { mode: 0o600 });
    const use = this.#use(draft.dir); // before anybody can find it and take it for his own
    const dir = join(this.#dir, nameOf(lineage, stamp.signature));
    for (let tries = 0; tries < 3; tries++) {
      if (moved(draft.dir, dir)) return this.#held(dir, use);
      const held = this.hold(lineage, stamp.signature);
      if (held !== undefined) {
        await this.discard(draft);
        return held;
      }
      const gone = join(this.#dir, this.#ownName("gone")); // what stands there is no mask
      if (moved(dir, gone)) await this.#remove(gone).catch(() => {});
    }
    await this.discard(draft);
    return undefined;
  }

  /** Removes a draft. */
  async discard(draft: Draft): Promise<void> {
    await this.#remove(draft.dir);
  }

  /** Removes what nobody uses beyond the bound, and what dead makers left. Never fails: what cannot be removed is tried again later. */
  async sweep(): Promise<void> {
    const masks: { readonly dir: string; readonly at: number }[] = [];
    for (const name of readdirSync(this.#dir)) {
      const dir = join(this.#dir, name);
      if (name.startsWith(".")) {
        if (!isAlive(ownerOf(name))) await this.#remove(dir).catch(() => {});
        continue;
      }
      masks.push({ dir, at: statSync(join(dir, "stamp.json"), { throwIfNoEntry: false })?.mtimeMs ?? 0 });
    }
    masks.sort((a, b) => b.at - a.at);
    for (const { dir, at } of masks.slice(MAX_MASKS)) {
      if (Date.now() - at < YOUNG_MS || isUsed(dir)) continue;
      const gone = join(this.#dir, this.#ownName("gone"));
      if (!moved(dir, gone)) continue;
      if (isUsed(gone)) moved(gone, dir);
      else await this.#remove(gone).catch(() => {});
    }
  }

  /** The tool removes it: in rootless mode the files of a tree belong to ids that Node.js cannot act for. */
  async #remove(dir: string): Promise<void> {
    const run = this.#tool(["remove", dir]);
    for await (const _ of run.stdout);
    await run.done;
  }

  #ownName(what: string): string {
    return `.${what}-${this.#self.pid}-${this.#self.startTicks}-${this.#self.bootId}.${randomText(8)}`;
  }
}

function nameOf(lineage: string, signature: string): string {
  return `${lineage}-${signature}`;
}

function ownerOf(name: string): ProcessIdentity {
  const [, pid = "0", startTicks = "", bootId = ""] = /^\.[a-z]+-(\d+)-(\d+)-([0-9a-f-]+)\./.exec(name) ?? [];
  return { pid: Number(pid), startTicks, bootId };
}

/** Renames; false when the one is gone or the other is there. */
function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  }
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined; // absent or cut by a crash: as good as not kept
  }
}

function readStamp(dir: string, bootId: string): MaskStamp | undefined {
  const stamp = readJson(join(dir, "stamp.json")) as MaskStamp | undefined;
  if (stamp === undefined || (stamp.form !== "tree" && stamp.form !== "image")) return undefined;
  return stamp.form === "image" && stamp.bootId !== bootId ? undefined : stamp;
}

/** Whether a living process holds the mask; the uses of dead ones are cleared away. */
function isUsed(dir: string): boolean {
  let used = false;
  for (const name of listUses(dir)) {
    const [pid = "0", startTicks = ""] = name.split("-");
    const bootId = identify(process.pid)?.bootId ?? "";
    if (isAlive({ pid: Number(pid), startTicks, bootId })) used = true;
    else unlinkQuietly(join(dir, "uses", name));
  }
  return used;
}

function listUses(dir: string): string[] {
  try {
    return readdirSync(join(dir, "uses"));
  } catch {
    return []; // the mask is gone
  }
}

function unlinkQuietly(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // another process cleared it away
  }
}
