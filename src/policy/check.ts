// What a policy does to a real tree: the level of every entry, what is hidden, and by which other ways a hidden thing can be known.
// The walk of the disk is handed in as entries; this file opens nothing.
// Invariant: an entry counts as hidden exactly when the sandbox will not see it: `none`, and no passage to something that is open.

import type { EntryKind, Permission, Policy } from "../api/policy.ts";
import { namesOf } from "./bytes.ts";
import { compilePolicy, type CompiledPolicy, type PolicyState } from "./compile.ts";
import { isPresetRule } from "./presets.ts";

/** One entry of a codebase, a directory before what is in it. Names are byte strings. */
export interface TreeEntry {
  /** Absolute in the codebase; the root need not be among the entries. */
  readonly path: string;
  readonly kind: EntryKind;
  /** Of a link: what it holds. */
  readonly target?: string;
  /** Device and inode in one text, when the file has more than one name. */
  readonly inode?: string;
}

export interface CheckedEntry {
  readonly path: string;
  readonly kind: EntryKind;
  /** With reachability: a passage is `view` here. */
  readonly permission: Permission;
  readonly passage: boolean;
  /** -1: no rule. */
  readonly ruleIndex: number;
  /** Absent for the root. */
  readonly parent?: CheckedEntry;
  readonly children: readonly CheckedEntry[];
}

/** A visible name that gives a hidden path away. */
export interface Alias {
  readonly path: string;
  readonly hidden: string;
  readonly by: "link" | "inode";
  /** The content is open too, not the name alone. */
  readonly content: boolean;
}

export interface CheckReport {
  readonly policy: Policy;
  readonly root: CheckedEntry;
  readonly counts: Readonly<Record<Permission, number>>;
  /** Hidden entries whose directory is visible; what is below them is hidden with them. */
  readonly hidden: readonly CheckedEntry[];
  readonly aliases: readonly Alias[];
  /** Rules that decide no entry of this tree, those of a preset left out. */
  readonly idle: readonly number[];
  /** The git object store can be read although paths are hidden: it may hold their content. */
  readonly gitReadable: boolean;
}

/** An entry while the tree is read; `permission` and `passage` are settled by what turns up below. */
interface Growing extends CheckedEntry {
  permission: Permission;
  passage: boolean;
  readonly parent?: Growing;
  readonly children: Growing[];
  readonly state: PolicyState;
  readonly entry: TreeEntry;
}

/** Throws `policy_invalid`. Keeps the whole tree in memory: some hundred bytes an entry. */
export async function checkTree(policy: Policy, entries: Iterable<TreeEntry> | AsyncIterable<TreeEntry>): Promise<CheckReport> {
  const compiled = compilePolicy(policy);
  const root = grow(compiled, compiled.root, { path: "/", kind: "dir" });
  const byPath = new Map<string, Growing>([["/", root]]);
  for await (const entry of entries) {
    const names = namesOf(entry.path);
    const name = names.pop();
    const parent = byPath.get(`/${names.join("/")}`);
    if (name === undefined || parent === undefined) continue;
    const child = grow(compiled, compiled.step(parent.state, name, entry.kind), entry, parent);
    parent.children.push(child);
    byPath.set(child.path, child);
    if (child.permission !== "none") openWay(parent);
  }
  return summed(compiled, root, byPath);
}

function grow(compiled: CompiledPolicy, state: PolicyState, entry: TreeEntry, parent?: Growing): Growing {
  const own = {
    path: entry.path,
    kind: entry.kind,
    permission: compiled.permissionOf(state),
    passage: false,
    ruleIndex: compiled.ruleIndexOf(state),
  };
  return { ...own, children: [], state, entry, ...(parent === undefined ? {} : { parent }) };
}

/** What is opened can be reached: every directory on the way becomes a passage when it is `none`. */
function openWay(from: Growing): void {
  for (let at: Growing | undefined = from; at !== undefined && at.permission === "none"; at = at.parent) {
    at.permission = "view";
    at.passage = true;
  }
}

function summed(compiled: CompiledPolicy, root: Growing, byPath: ReadonlyMap<string, Growing>): CheckReport {
  const all = [...byPath.values()];
  const counts: Record<Permission, number> = { none: 0, view: 0, read: 0, write: 0 };
  for (const entry of all) counts[entry.permission]++;
  const hidden = all.filter((entry) => entry.permission === "none" && entry.parent?.permission !== "none" && entry !== root);
  const deciding = new Set(all.map((entry) => entry.ruleIndex));
  const store = byPath.get("/.git/objects")?.permission;
  return {
    policy: compiled.policy,
    root,
    counts,
    hidden,
    aliases: [...linkAliases(all, byPath), ...inodeAliases(all)],
    idle: [...compiled.policy.rules.entries()]
      .filter(([index, rule]) => !deciding.has(index) && !isPresetRule(rule))
      .map(([index]) => index),
    gitReadable: hidden.length > 0 && (store === "read" || store === "write"),
  };
}

/** Visible links whose text leads to a hidden entry, other links on the way included. */
function linkAliases(all: readonly Growing[], byPath: ReadonlyMap<string, Growing>): readonly Alias[] {
  return all.flatMap((entry) => {
    if (entry.kind !== "link" || entry.permission === "none") return [];
    const end = followed(entry, byPath);
    return end?.permission === "none" ? [{ path: entry.path, hidden: end.path, by: "link" as const, content: false }] : [];
  });
}

/** As many links as the kernel follows. */
const MAX_LINKS = 40;

/** What a link leads to; when its way passes hidden entries, the last of those. `/workspace` is where the codebase is mounted. */
function followed(link: Growing, byPath: ReadonlyMap<string, Growing>): Growing | undefined {
  const at: string[] = namesOf(link.path).slice(0, -1);
  const rest = partsOf(link.entry.target ?? "", at);
  if (rest === undefined) return undefined;
  let hidden: Growing | undefined;
  for (let links = 1; links <= MAX_LINKS; ) {
    const part = rest.shift();
    if (part === undefined) return hidden ?? byPath.get(`/${at.join("/")}`);
    if (part === "..") {
      at.pop();
      continue;
    }
    at.push(part);
    const found = byPath.get(`/${at.join("/")}`);
    if (found === undefined) return hidden;
    if (found.permission === "none") hidden = found;
    if (found.kind !== "link") continue;
    links++;
    at.pop();
    const more = partsOf(found.entry.target ?? "", at);
    if (more === undefined) return hidden;
    rest.unshift(...more);
  }
  return hidden;
}

/** The names that a link's text adds to `at`, which it empties when the text begins at the mount. `undefined`: it leads out. */
function partsOf(target: string, at: string[]): string[] | undefined {
  const parts = target.split("/").filter((part) => part !== "" && part !== ".");
  if (!target.startsWith("/")) return parts;
  if (parts.shift() !== "workspace") return undefined;
  at.length = 0;
  return parts;
}

/** Visible names of files that have a hidden name too. */
function inodeAliases(all: readonly Growing[]): readonly Alias[] {
  const groups = new Map<string, Growing[]>();
  for (const entry of all) {
    const { inode } = entry.entry;
    if (inode === undefined || entry.kind === "dir") continue;
    const group = groups.get(inode) ?? [];
    group.push(entry);
    groups.set(inode, group);
  }
  return [...groups.values()].flatMap((group) => {
    const hidden = group.find((entry) => entry.permission === "none");
    if (hidden === undefined) return [];
    const seen = group.filter((entry) => entry.permission !== "none");
    return seen.map((entry) => ({ path: entry.path, hidden: hidden.path, by: "inode" as const, content: entry.permission !== "view" }));
  });
}
