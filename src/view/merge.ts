// Merges a delta over its base by overlayfs's rules and finds every path that differs, without a mount: what the kernel wrote is read
// as the kernel would read it, but a mark can only ever lead to what the policy showed. Contents are not compared here.
// Not a judge: it tells what a delta does, not whether that may be committed.
// Invariant: every path of the merged view that is not as the base showed it is in `found`, once.

import { CorralError } from "../api/errors.ts";
import type { EntryKind } from "../api/policy.ts";
import { printable } from "../policy/bytes.ts";
import type { CompiledPolicy, PolicyState } from "../policy/compile.ts";
import type { BaseTree, Wanted } from "./base-tree.ts";
import { signatureOf, type Signature, type Source } from "./stage.ts";
import type { UpperDir, UpperItem } from "./upper.ts";
import type { WalkEntry } from "./walk.ts";

/** What stands at a path in the merged view. */
export interface After {
  readonly kind: EntryKind;
  /** With type and setuid bits, as the delta has it. */
  readonly mode: number;
  readonly size: number;
  readonly target: string;
  readonly mtimeSeconds: number;
  /** Where the content of a file lies. */
  readonly source?: Source;
  /** What the source was when it was read. */
  readonly signature?: Signature;
  /** The base entry that this one is, moved here. */
  readonly moved?: WalkEntry;
  readonly capability: boolean;
}

export interface Difference {
  /** latin1, begins with `/`. */
  readonly path: string;
  /** Absent: the base showed nothing here. */
  readonly before?: WalkEntry;
  /** Absent: deleted. */
  readonly after?: After;
  /** Both are files of one size: only the bytes can tell. */
  readonly compare?: boolean;
  /** Something below a removed or replaced directory that must stay, so that the directory must. */
  readonly holds?: { readonly path: string; readonly hidden: boolean };
}

export interface Merge {
  readonly found: Difference[];
  /** Directories that were removed and made again, or replaced by another, although something in them must stay. */
  readonly remade: { readonly path: string; readonly holds: { readonly path: string; readonly hidden: boolean } }[];
}

export interface MergeInput {
  readonly upper: UpperDir;
  readonly base: BaseTree;
  readonly policy: CompiledPolicy;
}

/** A longer path is not in the view. */
const MAX_PATH = 4095;

type Leaf = Extract<UpperItem, { is: "leaf" }>;
type Shown = { readonly name: string; readonly entry: WalkEntry | undefined };

/** What `merge` will ask the base for. */
export function wantedBase(upper: UpperDir): Wanted {
  const dirs = new Set<string>([""]);
  const trees = new Set<string>();
  const visit = (dir: UpperDir, lower: string | undefined): void => {
    dirs.add(dir.path);
    if (lower !== undefined) dirs.add(lower);
    for (const item of dir.items) {
      const path = `${dir.path}/${item.name}`;
      if (item.is !== "dir") trees.add(path);
      if (item.is === "leaf" && item.redirect !== undefined) dirs.add(parentOf(redirected(item.redirect, lower) ?? "/"));
      if (item.is !== "dir") continue;
      const below = lowerOf(item.dir, lower);
      if (below !== path) {
        trees.add(path);
        if (below !== undefined) {
          trees.add(below);
          dirs.add(parentOf(below));
        }
      }
      visit(item.dir, below);
    }
  };
  visit(upper, "");
  return { dirs, trees };
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

export function redirected(redirect: string, parentLower: string | undefined): string | undefined {
  if (redirect.startsWith("/")) return redirect;
  return parentLower === undefined ? undefined : `${parentLower}/${redirect}`;
}

/** The lower directory that shows through `dir`, by its marks alone. */
export function lowerOf(dir: UpperDir, parentLower: string | undefined): string | undefined {
  // As the kernel reads it: an opaque directory is not looked for below, whatever redirect it still carries.
  if (dir.opaque) return undefined;
  if (dir.redirect !== undefined) return redirected(dir.redirect, parentLower);
  return parentLower === undefined ? undefined : `${parentLower}/${dir.path.slice(dir.path.lastIndexOf("/") + 1)}`;
}

export function merge(input: MergeInput): Merge {
  const merger = new Merger(input);
  merger.dir("", input.upper, "", true);
  merger.found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return { found: merger.found, remade: merger.remade };
}

class Merger {
  readonly found: Difference[] = [];
  readonly remade: Merge["remade"] = [];
  readonly #base: BaseTree;
  readonly #policy: CompiledPolicy;
  readonly #states = new Map<string, PolicyState>();
  /** Names in the root. */
  readonly #made = new Set<string>();

  constructor({ base, policy }: MergeInput) {
    this.#base = base;
    this.#policy = policy;
    this.#states.set("", policy.root);
    // The directories that a preset makes belong to the lower side, though the base has none (plan.ts, #makeMissing).
    for (const dir of policy.policy.dirs ?? []) {
      const name = Buffer.from(dir, "utf8").toString("latin1").slice(1);
      const taken = base.list("").some((entry) => entry.name === name);
      if (!taken && policy.permissionOf(policy.step(policy.root, name, "dir")) === "write") this.#made.add(name);
    }
  }

  #state(dir: string): PolicyState {
    const known = this.#states.get(dir);
    if (known !== undefined) return known;
    const state = this.#policy.step(this.#state(parentOf(dir)), dir.slice(dir.lastIndexOf("/") + 1), "dir");
    this.#states.set(dir, state);
    return state;
  }

  #isShown(dir: string, entry: WalkEntry): boolean {
    if (entry.errno !== 0 || dir.length + 1 + entry.name.length > MAX_PATH) return false;
    const state = this.#policy.step(this.#state(dir), entry.name, entry.kind);
    if (this.#policy.permissionOf(state) !== "none") return true;
    return entry.kind === "dir" && this.#policy.mayLead(state) && this.#leads(`${dir}/${entry.name}`, state);
  }

  /** Whether something really there below a passage is open. Where the listing was not asked for nothing hangs on the answer. */
  #leads(path: string, state: PolicyState): boolean {
    if (!this.#base.isListed(path)) return true;
    return this.#base.list(path).some((entry) => {
      const below = this.#policy.step(state, entry.name, entry.kind);
      return (
        this.#policy.permissionOf(below) !== "none" ||
        (entry.kind === "dir" && this.#policy.mayLead(below) && this.#leads(`${path}/${entry.name}`, below))
      );
    });
  }

  /** What the view showed in a lower directory. `entry` is absent for a directory that a preset makes. */
  #shown(dir: string): Shown[] {
    const shown: Shown[] = [];
    for (const entry of this.#base.list(dir)) if (this.#isShown(dir, entry)) shown.push({ name: entry.name, entry });
    if (dir === "") for (const name of this.#made) shown.push({ name, entry: undefined });
    return shown;
  }

  #shownAt(path: string): Shown | undefined {
    const dir = parentOf(path);
    const name = path.slice(path.lastIndexOf("/") + 1);
    const entry = this.#base.get(path);
    if (entry !== undefined && this.#isShown(dir, entry)) return { name, entry };
    return dir === "" && this.#made.has(name) ? { name, entry: undefined } : undefined;
  }

  /**
   * One directory of the merged view: `upper` over the lower directory `lower`. `existed`: the base showed a directory at `path`.
   * Where `lower` is the same path, whatever `upper` does not name is as it was.
   */
  dir(path: string, upper: UpperDir | undefined, lower: string | undefined, existed: boolean): void {
    const named = new Set<string>();
    for (const item of upper?.items ?? []) {
      named.add(item.name);
      this.#item(path, item, lower);
    }
    if (lower === path) return;
    for (const { name, entry } of lower === undefined ? [] : this.#shown(lower)) {
      if (named.has(name)) continue;
      named.add(name);
      this.#moved(`${path}/${name}`, `${lower}/${name}`, entry);
    }
    if (!existed) return;
    for (const { name, entry } of this.#shown(path)) if (!named.has(name)) this.#gone(`${path}/${name}`, entry);
    const hidden = this.#base.list(path).find((entry) => entry.errno === 0 && !this.#isShown(path, entry));
    if (hidden !== undefined) this.remade.push({ path, holds: { path: `${path}/${hidden.name}`, hidden: true } });
  }

  #item(dir: string, item: UpperItem, lower: string | undefined): void {
    const path = `${dir}/${item.name}`;
    const before = this.#shownAt(path);
    if (item.is === "whiteout") {
      if (before !== undefined) this.#gone(path, before.entry);
      return;
    }
    if (item.is === "leaf") return this.#leaf(path, item, lower);
    const below = this.#lowerDir(item.dir, lower);
    const made = before !== undefined && before.entry === undefined;
    const wasDir = made || before?.entry?.kind === "dir";
    const mode = item.dir.entry.mode;
    if (!made)
      this.found.push({
        path,
        ...beforeOf(before),
        after: { kind: "dir", mode, size: 0, target: "", mtimeSeconds: item.dir.entry.mtimeSeconds, capability: false },
      });
    this.dir(path, item.dir, below, wasDir);
  }

  #lowerDir(dir: UpperDir, parentLower: string | undefined): string | undefined {
    const lower = lowerOf(dir, parentLower);
    if (!dir.opaque && dir.redirect !== undefined && (lower === undefined || !this.#isLowerDir(lower))) throw this.#unreal(dir.path);
    return lower !== undefined && this.#isLowerDir(lower) ? lower : undefined;
  }

  #isLowerDir(path: string): boolean {
    const shown = this.#shownAt(path);
    return shown !== undefined && (shown.entry === undefined || shown.entry.kind === "dir");
  }

  #unreal(path: string): CorralError {
    return new CorralError(
      "delta_malformed",
      `${printable(path)} of the delta points to something that its sandbox never saw; the delta was forged or damaged, or belongs to another codebase`,
    );
  }

  #leaf(path: string, item: Leaf, lower: string | undefined): void {
    const { entry } = item;
    const plain = {
      kind: entry.kind,
      mode: entry.mode,
      size: entry.size,
      target: entry.target,
      mtimeSeconds: entry.mtimeSeconds,
      capability: item.capability,
    };
    if (!item.metacopy) {
      const source: Source = { root: "upper", path: item.place ?? path };
      const data = item.data ?? entry;
      this.#put(path, entry.kind === "file" ? { ...plain, size: data.size, source, signature: signatureOf(data) } : plain);
      return;
    }
    const origin =
      item.redirect === undefined ? (lower === undefined ? undefined : `${lower}/${item.name}`) : redirected(item.redirect, lower);
    const data = origin === undefined ? undefined : this.#shownAt(origin)?.entry;
    if (origin === undefined || data === undefined || data.kind === "dir" || data.kind === "link") throw this.#unreal(path);
    // A FIFO, socket or device of the base is shown as an empty file.
    if (data.kind === "other") return this.#put(path, { ...plain, size: 0 });
    this.#put(path, { ...plain, size: data.size, source: { root: "base", path: origin }, signature: signatureOf(data), moved: data });
  }

  /** An entry of the base that shows up under another name, because a directory above it was moved. */
  #moved(path: string, origin: string, entry: WalkEntry | undefined): void {
    if (entry === undefined || entry.kind === "dir") {
      const before = this.#shownAt(path);
      const mode = entry?.mode ?? 0o40755;
      this.found.push({
        path,
        ...beforeOf(before),
        after: {
          kind: "dir",
          mode,
          size: 0,
          target: "",
          mtimeSeconds: entry?.mtimeSeconds ?? 0,
          capability: false,
          ...(entry === undefined ? {} : { moved: entry }),
        },
      });
      this.dir(path, undefined, origin, before !== undefined && this.#isLowerDir(path));
      return;
    }
    const plain = {
      kind: entry.kind,
      mode: entry.mode,
      size: entry.size,
      target: entry.target,
      mtimeSeconds: entry.mtimeSeconds,
      capability: false,
      moved: entry,
    };
    this.#put(path, { ...plain, source: { root: "base", path: origin }, signature: signatureOf(entry) });
  }

  #put(path: string, after: After): void {
    const before = this.#shownAt(path);
    const old = before?.entry;
    if (before !== undefined && (old === undefined || old.kind === "dir")) this.#goneBelow(path);
    const same = after.source?.root === "base" && after.source.path === path;
    const compare = !same && old?.kind === "file" && after.kind === "file" && old.size === after.size;
    const holds = old?.kind === "dir" ? this.#holds(path) : undefined;
    this.found.push({ path, ...beforeOf(before), after, ...(compare ? { compare } : {}), ...(holds === undefined ? {} : { holds }) });
  }

  #gone(path: string, entry: WalkEntry | undefined): void {
    if (entry === undefined) return;
    const holds = entry.kind === "dir" ? this.#holds(path) : undefined;
    this.found.push({ path, before: entry, ...(holds === undefined ? {} : { holds }) });
    if (entry.kind === "dir") this.#goneBelow(path);
  }

  #goneBelow(path: string): void {
    for (const { name, entry } of this.#shown(path)) this.#gone(`${path}/${name}`, entry);
  }

  /** The first thing below a directory that nobody inside could have deleted. */
  #holds(path: string): Difference["holds"] {
    const state = this.#state(path);
    for (const entry of this.#base.list(path)) {
      const own = this.#policy.step(state, entry.name, entry.kind);
      const below = `${path}/${entry.name}`;
      if (this.#policy.permissionOf(own) !== "write" || entry.mountPoint || entry.errno !== 0)
        return { path: below, hidden: !this.#isShown(path, entry) };
      const deeper = entry.kind === "dir" ? this.#holds(below) : undefined;
      if (deeper !== undefined) return deeper;
    }
    return undefined;
  }
}

function beforeOf(shown: Shown | undefined): { readonly before?: WalkEntry } {
  return shown?.entry === undefined ? {} : { before: shown.entry };
}
