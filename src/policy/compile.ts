// The fast form of a policy: built once, then asked for many paths, or walked name by name along a tree.
// It decides nothing of its own: verdict.ts is the definition, and policy.property.test.ts holds the two together.
// Invariant: memory is bounded (caches stop growing when full), and a verdict costs at most the path times the policy, whatever
// the patterns are.

import type { EntryKind, Permission, Policy, Verdict } from "../api/policy.ts";
import { namesOf } from "./bytes.ts";
import { hashOf, NAME_CACHE_CELLS, type NameMatch, sameNumbers } from "./name-automaton.ts";
import { rankedRules } from "./rules.ts";
import {
  buildRuleTree,
  COVER,
  COVER_DIR,
  deepOf,
  globLabel,
  isDeep,
  literalLabel,
  rankOf,
  SELF,
  SELF_DIR,
  type RuleTree,
} from "./rule-tree.ts";
import { childAt, NONE } from "./trie.ts";
import type { LeadsToOpen } from "./verdict.ts";

/** Where a walk stands. Made by `root` and `step` only; what it holds is this file's business. */
export interface PolicyState {
  /** Places in the rule tree that names below can go on from, ascending. Empty: all below is as `cover` says. */
  readonly places: Int32Array;
  /** Rank of the rule that decides here. */
  readonly own: number;
  /** Rank of the rule that decides below where no other does. */
  readonly cover: number;
  readonly mayOpenBelow: boolean;
  readonly mayLead: boolean;
  /** Known steps, for a directory. Absent in a state that is not kept. */
  readonly steps: { readonly dir: Map<number, PolicyState>; readonly leaf: Map<number, PolicyState> } | undefined;
  /** The answer, passages apart. */
  readonly verdict: Verdict;
}

export interface CompiledPolicy {
  readonly policy: Policy;
  /** The codebase's root directory. */
  readonly root: PolicyState;
  /** From a directory to the entry `name` (byte string, one name) in it. */
  step(state: PolicyState, name: string, kind: EntryKind): PolicyState;
  /** The level that the rules give, before reachability: a passage is `none` here. */
  permissionOf(state: PolicyState): Permission;
  /** Index into `policy.rules`, or -1 when no rule matches. */
  ruleIndexOf(state: PolicyState): number;
  /** Could a rule give something below this directory another level than its own? `false`: the whole tree below has this level. */
  mayOpenBelow(state: PolicyState): boolean;
  /** Could something below this directory be above `none`? A directory at `none` is a passage when something really is. */
  mayLead(state: PolicyState): boolean;
  /** How much is kept for speed, in cells of 4 to 8 bytes; it never passes MAX_CACHE_CELLS. */
  cacheCells(): number;
  /** As `verdict` in verdict.ts. */
  verdict(path: string, kind: EntryKind, leadsToOpen?: LeadsToOpen): Verdict;
}

/** Cells of states and steps that may be kept: about 32 MB. */
const CACHE_CELLS = 4_000_000;
/** With those of the names, and a step that was begun just before the end. */
export const MAX_CACHE_CELLS = CACHE_CELLS + NAME_CACHE_CELLS + 100;

const PASSAGE: Verdict = Object.freeze({ permission: "view", passage: true });

interface Walker {
  readonly tree: RuleTree;
  readonly states: Map<number, PolicyState[]>;
  cells: number;
  /** Places found in the step under way; a place is in it when its mark is the stamp. */
  readonly found: Int32Array;
  foundCount: number;
  readonly mark: Uint32Array;
  stamp: number;
}

/** Throws `policy_invalid`. */
export function compilePolicy(policy: Policy): CompiledPolicy {
  const tree = buildRuleTree(rankedRules(policy));
  const { size } = tree.trie;
  const walker: Walker = {
    tree,
    states: new Map(),
    cells: 0,
    found: new Int32Array(size),
    foundCount: 0,
    mark: new Uint32Array(size),
    stamp: 0,
  };
  forget(walker);
  find(walker, 0);
  const root = arrive(walker, { cover: NONE, isDir: true });
  return {
    policy,
    root,
    step: (state, name, kind) => step(walker, state, { text: name, start: 0, end: name.length, isDir: kind === "dir" }),
    permissionOf: (state) => state.verdict.permission,
    ruleIndexOf: (state) => state.verdict.ruleIndex ?? NONE,
    mayOpenBelow: (state) => state.mayOpenBelow,
    mayLead: (state) => state.mayLead,
    cacheCells: () => walker.cells + tree.names.cacheCells(),
    verdict: (path, kind, leadsToOpen) => {
      const state = walk(walker, root, path, kind === "dir");
      const isPassage = state.mayLead && state.verdict.permission === "none" && (leadsToOpen?.(`/${namesOf(path).join("/")}`) ?? true);
      return isPassage ? PASSAGE : state.verdict;
    },
  };
}

function walk(walker: Walker, root: PolicyState, path: string, isDir: boolean): PolicyState {
  let state = root;
  for (let start = path.charCodeAt(0) === SLASH ? 1 : 0; start < path.length; ) {
    const slash = path.indexOf("/", start);
    const end = slash === -1 ? path.length : slash;
    if (end === path.length - 1 || isNoName(path, start, end)) return walkNames(walker, root, namesOf(path), isDir);
    state = step(walker, state, { text: path, start, end, isDir: end < path.length || isDir });
    start = end + 1;
  }
  return state;
}

const SLASH = 0x2f;
const DOT = 0x2e;

/** Nothing, `.` or `..`: then the path is not in its plain spelling. */
function isNoName(path: string, start: number, end: number): boolean {
  if (end === start) return true;
  return path.charCodeAt(start) === DOT && (end === start + 1 || (end === start + 2 && path.charCodeAt(start + 1) === DOT));
}

function walkNames(walker: Walker, root: PolicyState, names: readonly string[], isDir: boolean): PolicyState {
  return names.reduce(
    (state, text, index) => step(walker, state, { text, start: 0, end: text.length, isDir: index < names.length - 1 || isDir }),
    root,
  );
}

/** One name, where it stands in a text. */
interface Name {
  readonly text: string;
  readonly start: number;
  readonly end: number;
  readonly isDir: boolean;
}

function step(walker: Walker, state: PolicyState, name: Name): PolicyState {
  const { tree } = walker;
  // Nothing can change below any more: the name need not be read.
  if (state.places.length === 0) return uniform(walker, state, name.isDir);
  const match = tree.names.match(name.text, name.start, name.end);
  const steps = match.id === -1 ? undefined : name.isDir ? state.steps?.dir : state.steps?.leaf;
  const known = steps?.get(match.id);
  if (known !== undefined) return known;
  forget(walker);
  findNext(walker, state.places, match);
  const next = arrive(walker, { cover: state.cover, isDir: name.isDir });
  if (steps !== undefined && walker.cells < CACHE_CELLS) {
    walker.cells += 4;
    steps.set(match.id, next);
  }
  return next;
}

function uniform(walker: Walker, state: PolicyState, isDir: boolean): PolicyState {
  const steps = isDir ? state.steps?.dir : state.steps?.leaf;
  const known = steps?.get(0);
  if (known !== undefined) return known;
  forget(walker);
  const next = arrive(walker, { cover: state.cover, isDir });
  steps?.set(0, next);
  return next;
}

function forget(walker: Walker): void {
  walker.stamp++;
  walker.foundCount = 0;
}

function find(walker: Walker, place: number): void {
  if (place === NONE || walker.mark[place] === walker.stamp) return;
  walker.mark[place] = walker.stamp;
  walker.found[walker.foundCount++] = place;
}

/** Finds the places that one name leads to, before `**` is entered. */
function findNext(walker: Walker, places: Int32Array, match: NameMatch): void {
  const { trie } = walker.tree;
  const labels = match.globs.map(globLabel);
  // Made only when many globs match: then a node's few children are looked up in it, not the many globs at the node.
  const matched = labels.length > 16 ? new Set(labels) : undefined;
  for (const place of places) {
    if (isDeep(trie, place)) find(walker, place);
    if (match.literal !== 0) find(walker, childAt(trie, place, literalLabel(match.literal)));
    if (matched === undefined) for (const label of labels) find(walker, childAt(trie, place, label));
    else {
      for (let child = trie.first[place] ?? NONE; child !== NONE; child = trie.next[child] ?? NONE) {
        if (matched.has(trie.label[child] ?? NONE)) find(walker, child);
      }
    }
  }
}

/** The state of an entry whose path ends at the found places, below a directory that `cover` covers. */
function arrive(walker: Walker, { cover, isDir }: { readonly cover: number; readonly isDir: boolean }): PolicyState {
  const { trie, ending, below } = walker.tree;
  const best = (place: number, how: number): number => ending[place * 4 + how] ?? NONE;
  let covers = cover;
  let own = NONE;
  // Grows while it is walked: `**` matches no name at all, too.
  for (let at = 0; at < walker.foundCount; at++) {
    const place = walker.found[at] ?? 0;
    covers = Math.max(covers, best(place, COVER), isDir ? best(place, COVER_DIR) : NONE);
    own = Math.max(own, best(place, SELF), isDir ? best(place, SELF_DIR) : NONE);
    find(walker, deepOf(trie, place));
  }
  own = Math.max(own, covers);
  // What can only end in rules of a lower rank than the cover decides nothing below.
  const found = walker.found.subarray(0, isDir ? walker.foundCount : 0);
  const places = found.filter((place) => canOutrank(below, place, covers)).sort();
  return keep(walker, { places, own, cover: isDir ? covers : own, isDir });
}

function canOutrank(below: Int32Array, place: number, cover: number): boolean {
  const at = place * 4;
  return (
    (below[at] ?? NONE) > cover || (below[at + 1] ?? NONE) > cover || (below[at + 2] ?? NONE) > cover || (below[at + 3] ?? NONE) > cover
  );
}

function keep(
  walker: Walker,
  { places, own, cover, isDir }: Pick<PolicyState, "places" | "own" | "cover"> & { readonly isDir: boolean },
): PolicyState {
  const hash = hashOf(places) ^ Math.imul(own + 1, 0x9e3779b1) ^ Math.imul(cover + 1, 0x85ebca6b) ^ (isDir ? 1 : 0);
  const bucket = walker.states.get(hash) ?? [];
  const known = bucket.find(
    (state) => state.own === own && state.cover === cover && isDir === (state.steps !== undefined) && sameNumbers(state.places, places),
  );
  if (known !== undefined) return known;
  const full = walker.cells + places.length + 64 > CACHE_CELLS;
  const state: PolicyState = {
    places,
    own,
    cover,
    ...(isDir ? outlook(walker.tree, { places, own, cover }) : { mayOpenBelow: false, mayLead: false }),
    verdict: verdictOf(walker.tree, own),
    steps: isDir && !full ? { dir: new Map(), leaf: new Map() } : undefined,
  };
  if (full) return state;
  walker.cells += places.length + 64;
  bucket.push(state);
  walker.states.set(hash, bucket);
  return state;
}

function verdictOf(tree: RuleTree, own: number): Verdict {
  const rule = tree.rules[own];
  return Object.freeze(rule === undefined ? { permission: "none" } : { permission: rule.permission, ruleIndex: rule.index });
}

/** What a directory's state can say of all that is, or could be, below it. */
function outlook(
  tree: RuleTree,
  { places, own, cover }: Pick<PolicyState, "places" | "own" | "cover">,
): { readonly mayOpenBelow: boolean; readonly mayLead: boolean } {
  const level = rankOf(tree.rules[own]?.permission ?? "none");
  const coverLevel = rankOf(tree.rules[cover]?.permission ?? "none");
  const outranking = (wanted: (level: number) => boolean): boolean =>
    [0, 1, 2, 3].some((at) => wanted(at) && places.some((place) => (tree.below[place * 4 + at] ?? NONE) > cover));
  return {
    mayOpenBelow: coverLevel !== level || outranking((at) => at !== level),
    mayLead: coverLevel > 0 || outranking((at) => at > 0),
  };
}
