// Makes the rules of a policy ready to be judged by: patterns read, rank settled. It judges nothing itself.
// Invariant: a policy with anything wrong in it is refused as a whole - there is no best effort, so no deny can get lost.

import { CorralError } from "../api/errors.ts";
import { MAX_POLICY_BYTES, MAX_RULES } from "../api/limits.ts";
import { PERMISSIONS, type Permission, type Policy, type PolicyProblem, type Rule } from "../api/policy.ts";
import { parsePattern, type Pattern } from "./pattern.ts";
import type { Segment } from "./segment.ts";

export interface ReadRule {
  /** Index into `policy.rules`. */
  readonly index: number;
  readonly permission: Permission;
  readonly pattern: Pattern;
  /** A matched directory covers all below it. A pattern that ends in `**` does so by its own meaning, whatever `subtree` says. */
  readonly covers: boolean;
}

/** A problem of one rule: which rule, and the offset in its pattern (absent: the rule as a whole). */
export interface RuleProblem {
  readonly index: number;
  readonly offset?: number;
  readonly message: string;
}

/** The rules of `policy` from the lowest rank to the highest: by priority, at equal priority by place. Throws `policy_invalid`. */
export function rankedRules(policy: Policy): readonly ReadRule[] {
  const { rules, problems } = readRules(policy.rules);
  if (problems.length > 0) throw invalidPolicy(problems.map((problem) => asPolicyProblem(problem)));
  const priority = (rule: ReadRule): number => policy.rules[rule.index]?.priority ?? 0;
  return rules.toSorted((a, b) => priority(a) - priority(b) || a.index - b.index);
}

/** Reads each rule; `rules` lacks those that have a problem. */
export function readRules(rules: readonly Rule[]): { readonly rules: readonly ReadRule[]; readonly problems: readonly RuleProblem[] } {
  const read: ReadRule[] = [];
  const problems: RuleProblem[] = [];
  if (rules.length > MAX_RULES)
    return {
      rules: read,
      problems: [{ index: MAX_RULES, message: `a policy holds at most ${MAX_RULES} rules, this one has ${rules.length}` }],
    };
  let bytes = 0;
  for (const [index, rule] of rules.entries()) {
    bytes += Buffer.byteLength(rule.pattern, "utf8");
    if (bytes > MAX_POLICY_BYTES)
      return {
        rules: read,
        problems: [...problems, { index, message: `the patterns of a policy hold at most ${MAX_POLICY_BYTES} bytes together` }],
      };
    const problem = fieldProblem(rule);
    if (problem !== undefined) {
      problems.push({ index, message: problem });
      continue;
    }
    const result = parsePattern(rule.pattern);
    if ("problem" in result) problems.push({ index, offset: result.problem.offset, message: result.problem.message });
    else
      read.push({
        index,
        permission: rule.permission,
        pattern: result.pattern,
        covers: rule.subtree !== false || endsDeep(result.pattern),
      });
  }
  return { rules: read, problems };
}

function endsDeep(pattern: Pattern): boolean {
  return pattern.segments.at(-1)?.kind === "deep" && !pattern.dirOnly;
}

/** Without a last `**`: for a rule that covers, `/a/**` says what `/a` says. */
export function trimmed(rule: Pick<ReadRule, "covers" | "pattern">): readonly Segment[] {
  const { segments } = rule.pattern;
  return rule.covers && segments.at(-1)?.kind === "deep" ? segments.slice(0, -1) : segments;
}

/** What the type system cannot promise of a rule that came from a file or a wire. */
function fieldProblem(rule: Rule): string | undefined {
  if (!PERMISSIONS.includes(rule.permission)) return `\`${rule.permission}\` is no permission; write one of ${PERMISSIONS.join(", ")}`;
  if (rule.priority !== undefined && !Number.isSafeInteger(rule.priority)) return "`priority` must be a whole number";
  return undefined;
}

function asPolicyProblem(problem: RuleProblem): PolicyProblem {
  return {
    severity: "error",
    line: problem.index + 1,
    column: (problem.offset ?? 0) + 1,
    message: `rule ${problem.index + 1}: ${problem.message}`,
  };
}

/** The error of a policy that is refused. Line and column of the first problem stand in the message, all of them in `details`. */
export function invalidPolicy(problems: readonly PolicyProblem[]): CorralError {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  const text =
    first === undefined
      ? "The policy is invalid."
      : `The policy is invalid: line ${first.line}, column ${first.column}: ${first.message}${more}.`;
  return new CorralError("policy_invalid", text, { details: { problems } });
}
