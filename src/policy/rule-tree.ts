// The rules of a policy as one tree of names, built once: equal beginnings are shared, each node knows the best rule that ends
// there and the best that can still end below. It is walked by compile.ts; it answers nothing itself.
// Invariant: it is as large as the patterns together, and rank (not place in a file) is the only order it knows.

import { PERMISSIONS, type Permission } from "../api/policy.ts";
import { createNameAutomaton, type NameAutomaton } from "./name-automaton.ts";
import { trimmed, type ReadRule } from "./rules.ts";
import type { Segment } from "./segment.ts";
import { addChild, childAt, createTrie, NONE, type Trie } from "./trie.ts";

/** The edge that `**` leaves by: its child is entered without a name and stays for any name. Literals stand on edges above it, globs below. */
const DEEP = 0;

export interface RuleTree {
  /** Lowest rank first; a rank is an index into it. Without the patterns, which may be large and are in the tree now. */
  readonly rules: readonly Pick<ReadRule, "index" | "permission">[];
  readonly trie: Trie;
  readonly names: NameAutomaton;
  /** At `node * 4 + Ending`: rank of the best rule of that kind which ends at the node, or NONE. */
  readonly ending: Int32Array;
  /** At `node * 4 + permission`: the best rank of a rule of that permission that can end strictly below the node, or NONE. */
  readonly below: Int32Array;
}

/** How a rule ends: with all below or for the path alone, whatever stands there or only at a directory. */
export const COVER = 0;
export const COVER_DIR = 1;
export const SELF = 2;
export const SELF_DIR = 3;

export function buildRuleTree(rules: readonly ReadRule[]): RuleTree {
  const names = createNameAutomaton();
  const trie = createTrie();
  // Trimmed, so that a walk stops where nothing can change any more.
  const ends = rules.map((rule) => trimmed(rule).reduce((node, segment) => addChild(trie, node, labelOf(names, segment)), 0));
  const decided = rules.map(({ index, permission }) => ({ index, permission }));
  return { rules: decided, trie, names, ending: endingsOf(rules, ends, trie.size), below: belowOf(rules, ends, trie) };
}

function labelOf(names: NameAutomaton, segment: Segment): number {
  if (segment.kind === "deep") return DEEP;
  return segment.kind === "literal" ? literalLabel(names.addLiteral(segment.name)) : globLabel(names.addGlob(segment.atoms));
}

/** The edge of a literal. NONE is no label: it is what stands above the root. */
export function literalLabel(number: number): number {
  return number;
}

export function globLabel(number: number): number {
  return NONE - number;
}

function endingsOf(rules: readonly ReadRule[], ends: readonly number[], size: number): Int32Array {
  const ending = new Int32Array(size * 4).fill(NONE);
  // Ranks ascend, so the last one written is the best.
  for (const [rank, { covers, pattern }] of rules.entries()) {
    const how = covers ? (pattern.dirOnly ? COVER_DIR : COVER) : pattern.dirOnly ? SELF_DIR : SELF;
    ending[(ends[rank] ?? 0) * 4 + how] = rank;
  }
  return ending;
}

function belowOf(rules: readonly ReadRule[], ends: readonly number[], trie: Trie): Int32Array {
  const here = new Int32Array(trie.size * 4).fill(NONE);
  for (const [rank, rule] of rules.entries()) here[(ends[rank] ?? 0) * 4 + rankOf(rule.permission)] = rank;
  const below = new Int32Array(trie.size * 4).fill(NONE);
  const raise = (at: number, rank: number): void => {
    if (rank > (below[at] ?? NONE)) below[at] = rank;
  };
  // Children are made after their parents, so walking the numbers downwards meets them first.
  for (let node = trie.size - 1; node > 0; node--) {
    const parent = trie.parent[node] ?? 0;
    for (let level = 0; level < 4; level++) {
      const own = here[node * 4 + level] ?? NONE;
      // What ends at a `**` ends again at every depth below it.
      if (isDeep(trie, node)) raise(node * 4 + level, own);
      raise(parent * 4 + level, Math.max(own, below[node * 4 + level] ?? NONE));
    }
  }
  return below;
}

/** Whether the node stays for any name. */
export function isDeep(trie: Trie, node: number): boolean {
  return trie.label[node] === DEEP;
}

/** The `**` node that is entered together with this one, or NONE. */
export function deepOf(trie: Trie, node: number): number {
  return childAt(trie, node, DEEP);
}

export function rankOf(permission: Permission): number {
  return PERMISSIONS.indexOf(permission);
}
