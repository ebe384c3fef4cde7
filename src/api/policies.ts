// Questions about policies, answered without a sandbox or about the policy of one. Types alone. What a policy means is told by
// api/policy.ts. Invariant: an answer is bounded whatever was asked, and tells of rules alone: no answer depends on what a codebase holds.

import type { CallOptions } from "./calls.ts";
import type { EntryKind, Permission, Policy, PolicyProblem } from "./policy.ts";

export interface ExplainOptions extends CallOptions {
  /** What is taken to stand there. Absent: a directory when the path ends in `/`, else a file. */
  readonly kind?: EntryKind;
}

export interface ExplainedRule {
  /** Its place among the rules, from 0. */
  readonly index: number;
  readonly permission: Permission;
  readonly pattern: string;
}

export interface PolicyExplanation {
  /** In its plain spelling, printable. */
  readonly path: string;
  readonly kind: EntryKind;
  readonly permission: Permission;
  /** Seen only because something below it can be open. */
  readonly passage: boolean;
  /** The one that decided; absent: none matched. */
  readonly rule?: ExplainedRule;
  /** Rules that match too and were outranked, the next best first: the first MAX_TOLD_RULES. */
  readonly outranked: readonly ExplainedRule[];
  readonly counts: { readonly outranked: number };
  /** The same for a person. */
  readonly text: string;
}

export interface CheckOptions extends CallOptions {
  /** Absent: told by the first line that says something. */
  readonly format?: "lines" | "yaml" | "json";
}

export interface PolicyCheck {
  /** Errors and warnings by place: the first MAX_TOLD_PROBLEMS. */
  readonly problems: readonly PolicyProblem[];
  readonly counts: { readonly errors: number; readonly warnings: number };
  /** As a create takes it. Absent when there is an error. */
  readonly policy?: Pick<Policy, "rules">;
}

export interface PolicyCalls {
  /** Of the text of a policy file, at most MAX_POLICY_TEXT_BYTES. Throws `policy_too_complex`. */
  check(text: string, options?: CheckOptions): Promise<PolicyCheck>;
  /** What a preset or rules say of a path of a codebase. Throws `policy_invalid`, `policy_too_complex`, `preset_unknown`. */
  explain(policy: string | Pick<Policy, "rules">, path: string, options?: ExplainOptions): Promise<PolicyExplanation>;
}
