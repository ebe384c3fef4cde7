// Which engine a policy needs, as a function of its rules alone. It does not know what the machine has, and falls back to nothing.
// Invariant: "kernel" is said only when no rule lets a name appear in a directory where the kernel engine could not make it.

import type { Policy } from "../api/policy.ts";
import { includes, mayMeet } from "./overlap.ts";
import { rankedRules, trimmed, type ReadRule } from "./rules.ts";

export interface EngineNeed {
  readonly engine: "kernel" | "fuse";
  /** For a person: names the rule or the word of the policy that decides. */
  readonly why: string;
}

/** Pairs of rules that are compared before the answer is the safe one. */
const MAX_PAIRS = 1_000_000;

/** Throws `policy_invalid`. */
export function engineNeeds(policy: Policy): EngineNeed {
  if (policy.live === true) return { engine: "fuse", why: "the policy asks to be changed while sandboxes run (`live`)" };
  if (policy.audit === true) return { engine: "fuse", why: "the policy asks for a record of each refusal (`audit`)" };
  const rules = rankedRules(policy);
  // Only `write` makes names: a name that is not there cannot come to be at a lower level, and what is there is masked exactly.
  const granting = [...rules.entries()].filter(([, rule]) => rule.permission === "write" && trimmed(rule).at(-1)?.kind === "glob");
  if (granting.length * rules.length > MAX_PAIRS)
    return {
      engine: "fuse",
      why: `${granting.length} rules grant \`write\` by a wildcard, too many to tell that none does so in a directory of a lower level`,
    };
  const found = granting.find(([rank]) => grantsInLower(rules, rank));
  if (found === undefined) return { engine: "kernel", why: "no rule grants `write` by a wildcard in a directory of a lower level" };
  const [, { index }] = found;
  const pattern = policy.rules[index]?.pattern ?? "";
  return {
    engine: "fuse",
    why: `rule ${index + 1} grants \`write\` by name (\`${pattern}\`) in directories that are not \`write\`: the kernel engine cannot make new files there`,
  };
}

/** Whether some directory, in which a name that the rule grants could appear, may be below `write`. */
function grantsInLower(rules: readonly ReadRule[], rank: number): boolean {
  const rule = rules[rank];
  if (rule === undefined || rules.slice(rank + 1).some((later) => includes(later, rule))) return false;
  const parents = trimmed(rule).slice(0, -1);
  const parent = { covers: false, pattern: { segments: parents, dirOnly: true, anchored: true } };
  const open = rules.findLastIndex((other) => other.permission === "write" && other.covers && other !== rule && includes(other, parent));
  if (open === -1) return true;
  // A later rule that lowers a directory with all below it wins over this one there; an earlier one lowers only the directory.
  return rules.some((other, at) => at > open && other.permission !== "write" && (at < rank || !other.covers) && mayMeet(other, parents));
}
