// The definition of what a policy means: a naive reading of the rules, one path at a time. Slow on purpose; compile.ts must agree
// with it on every path. Pure: no clock, no disk, no log.
// Invariant: the highest-ranked matching rule wins, no matching rule means `none`, and only a directory that a rule of higher rank
// opens below is a passage. Nothing else opens anything.

import type { EntryKind, Permission, Policy, Verdict } from "../api/policy.ts";
import { namesOf } from "./bytes.ts";
import type { Pattern } from "./pattern.ts";
import { rankedRules, type ReadRule } from "./rules.ts";
import { matchesName } from "./segment.ts";

/**
 * Whether something that is really there, below the directory `path`, is above `none`. Asked only for a directory at `none` that
 * rules could open below. Without it the answer is "could": the rules alone decide (a directory with no such entry yet is a passage).
 */
export type LeadsToOpen = (path: string) => boolean;

/**
 * What `policy` allows on `path` (byte string, absolute in the codebase; `kind` of what stands there). A symbolic link is judged by
 * its own path; its target is a second question. Throws `policy_invalid`.
 */
export function verdict(policy: Policy, path: string, kind: EntryKind, leadsToOpen: LeadsToOpen = () => true): Verdict {
  return judge(rankedRules(policy), path, { kind, leadsToOpen });
}

/** `verdict` over rules that are read already, lowest rank first. */
export function judge(
  rules: readonly ReadRule[],
  path: string,
  { kind, leadsToOpen }: { readonly kind: EntryKind; readonly leadsToOpen: LeadsToOpen },
): Verdict {
  const names = namesOf(path);
  const rule = rules.findLast((candidate) => matches(candidate, names, kind));
  const decided = rule === undefined ? {} : { ruleIndex: rule.index };
  const permission = rule?.permission ?? "none";
  if (permission !== "none" || kind !== "dir" || !mayLead(rules, names)) return { permission, ...decided };
  return leadsToOpen(`/${names.join("/")}`) ? { permission: "view", passage: true } : { permission, ...decided };
}

/** Indices of the rules that match `path` or cover it, the deciding one first. */
export function matchingRules(policy: Policy, path: string, kind: EntryKind): readonly number[] {
  const names = namesOf(path);
  return rankedRules(policy)
    .filter((rule) => matches(rule, names, kind))
    .map((rule) => rule.index)
    .toReversed();
}

/** Whether the rule matches the path itself, or covers it from a directory above. */
function matches(rule: ReadRule, names: readonly string[], kind: EntryKind): boolean {
  const lengths = matchedLengths(rule.pattern, names);
  if (rule.covers && lengths.some((length) => length < names.length)) return true;
  return lengths.includes(names.length) && (kind === "dir" || !rule.pattern.dirOnly);
}

/** How many names from the root on the whole pattern can match, each way. */
function matchedLengths(pattern: Pattern, names: readonly string[]): readonly number[] {
  return placesBefore(pattern, names).at(-1) ?? [];
}

/** Before each segment, and after the last: how many names the segments so far can have matched. */
function placesBefore(pattern: Pattern, names: readonly string[]): readonly (readonly number[])[] {
  const all: (readonly number[])[] = [[0]];
  for (const segment of pattern.segments) {
    const from = all.at(-1) ?? [];
    const least = from[0] ?? names.length + 1;
    all.push(
      segment.kind === "deep"
        ? Array.from({ length: Math.max(0, names.length + 1 - least) }, (_, i) => least + i)
        : from.filter((place) => place < names.length && matchesName(segment, names[place] ?? "")).map((place) => place + 1),
    );
  }
  return all;
}

/**
 * Whether the rules could put something below the directory above `none`: either what covers the directory does, or a rule that
 * outranks it does and its own pattern reaches below - whatever a third rule may say about that place.
 */
function mayLead(rules: readonly ReadRule[], names: readonly string[]): boolean {
  const cover = rules.findLastIndex((rule) => rule.covers && matches(rule, names, "dir"));
  if (isOpen(rules[cover]?.permission)) return true;
  return rules.slice(cover + 1).some((rule) => isOpen(rule.permission) && reachesBelow(rule.pattern, names));
}

/** Whether the pattern has something left to match below `names`: a segment to come, or a last `**` that goes on. */
function reachesBelow(pattern: Pattern, names: readonly string[]): boolean {
  const places = placesBefore(pattern, names);
  const open = pattern.segments.at(-1)?.kind === "deep" ? places : places.slice(0, -1);
  return open.some((lengths) => lengths.includes(names.length));
}

function isOpen(permission: Permission | undefined): boolean {
  return permission !== undefined && permission !== "none";
}
