// Warnings about a policy that is valid: rules that can never decide, paths whose content leaks by git, spellings that are rarely meant.
// It reads no disk; what it must know of a codebase is handed in. Errors are parse.ts's.
// Invariant: a warning changes no verdict.

import type { Policy, PolicyProblem } from "../api/policy.ts";
import { printable } from "./bytes.ts";
import { compilePolicy } from "./compile.ts";
import { includes, type Work } from "./overlap.ts";
import { parsePolicy, type ParseOptions } from "./parse.ts";
import { problemAt, type Place } from "./place.ts";
import { rankedRules, type ReadRule } from "./rules.ts";

export interface LintFacts {
  /** For each rule its place; a rule without one is a preset's and is not warned about. Absent: the rule's number is its line. */
  readonly places?: readonly (Place | undefined)[];
  readonly hasWorkspaceEntry?: boolean;
  /** Paths (byte strings, `/a/b`) that git keeps in the codebase's object store. Absent: the codebase has none, or it is not known. */
  readonly inGit?: Iterable<string>;
}

/** What comparing rules with each other may take; more would take long, and the warning says that it stopped. */
const MAX_WORK = 2_000_000;
/** Of one comparison, besides its names. */
const PAIR_WORK = 4;
const MAX_NAMED = 5;

/** Errors and warnings of a policy file, by place. */
export function lintText(text: string, options: ParseOptions & Pick<LintFacts, "inGit"> = {}): readonly PolicyProblem[] {
  const parsed = parsePolicy(text, options);
  if (parsed.policy === undefined) return parsed.problems;
  return [...parsed.problems, ...lintPolicy(parsed.policy, { ...options, places: parsed.places })].toSorted(
    (a, b) => a.line - b.line || a.column - b.column,
  );
}

/** Warnings only. Throws `policy_invalid`. */
export function lintPolicy(policy: Policy, facts: LintFacts = {}): readonly PolicyProblem[] {
  const rules = rankedRules(policy);
  return [...shadowed(policy, rules, facts), ...spellings(policy, rules, facts), ...opensNothing(policy), ...keptByGit(policy, facts)];
}

/** `undefined` for a rule that is not the author's. */
function placeOf(facts: LintFacts, index: number): Place | undefined {
  return facts.places === undefined ? { line: index + 1, column: 1 } : facts.places[index];
}

function warning(place: Place, message: string): PolicyProblem {
  return problemAt(place, message, "warning");
}

function shadowed(policy: Policy, rules: readonly ReadRule[], facts: LintFacts): readonly PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const work: Work = { left: MAX_WORK };
  for (const [rank, rule] of rules.entries()) {
    const place = placeOf(facts, rule.index);
    if (place === undefined) continue;
    const above = rules.slice(rank + 1).find((later) => {
      work.left -= PAIR_WORK;
      return work.left < 0 || includes(later, rule, work);
    });
    if (work.left < 0)
      return [...problems, warning(place, "the policy is large: from this rule on it was not looked for rules that can never decide")];
    if (above === undefined) continue;
    const where = facts.places === undefined ? `rule ${above.index + 1}` : lineOf(facts, above.index);
    problems.push(
      warning(
        place,
        `this rule can never decide: \`${policy.rules[above.index]?.permission ?? ""} ${policy.rules[above.index]?.pattern ?? ""}\` (${where}) outranks it on every path that it matches`,
      ),
    );
  }
  return problems;
}

function lineOf(facts: LintFacts, index: number): string {
  const place = facts.places?.[index];
  return place === undefined ? "a rule of the preset" : `line ${place.line}`;
}

function spellings(policy: Policy, rules: readonly ReadRule[], facts: LintFacts): readonly PolicyProblem[] {
  return rules.flatMap((rule) => {
    const place = placeOf(facts, rule.index);
    const text = policy.rules[rule.index]?.pattern ?? "";
    if (place === undefined) return [];
    const found: PolicyProblem[] = [];
    if (!rule.pattern.anchored && text.startsWith("workspace/") && facts.hasWorkspaceEntry !== true) {
      found.push(
        warning(place, "`workspace` is looked for inside the codebase; `/workspace` is where it is mounted and no part of its paths"),
      );
    }
    if (/\\[A-Za-z0-9]/.test(text))
      found.push(warning(place, "`\\` before a letter or digit means that letter or digit; names are parted by `/`"));
    return found;
  });
}

function opensNothing(policy: Policy): readonly PolicyProblem[] {
  if (policy.rules.some((rule) => rule.permission !== "none")) return [];
  return [warning({ line: 1, column: 1 }, "no rule opens anything: the codebase looks like an empty directory")];
}

function keptByGit(policy: Policy, facts: LintFacts): readonly PolicyProblem[] {
  if (facts.inGit === undefined) return [];
  const compiled = compilePolicy(policy);
  const store = compiled.verdict("/.git/objects", "dir").permission;
  if (store === "none" || store === "view") return [];
  const kept = new Map<number, string[]>();
  for (const path of facts.inGit) {
    const { permission, ruleIndex = -1 } = compiled.verdict(path, "file");
    if (permission === "none" || permission === "view") kept.set(ruleIndex, [...(kept.get(ruleIndex) ?? []), path].slice(0, MAX_NAMED + 1));
  }
  return [...kept].map(([index, paths]) => {
    const named = paths.slice(0, MAX_NAMED).map(printable).join(", ");
    const more = paths.length > MAX_NAMED ? " and more" : "";
    return warning(
      (index === -1 ? undefined : placeOf(facts, index)) ?? { line: 1, column: 1 },
      `the content of ${named}${more} can be read from the git history in \`/.git\`, which the policy leaves readable; hide \`.git/\` too`,
    );
  });
}
