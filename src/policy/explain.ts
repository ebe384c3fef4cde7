// Says why a path has its level: the verdict, the rule that gave it and the rules that lost. Data first, text second; it asks no disk.
// Invariant: what is printed is what verdict.ts answers, and names are printed inert.

import type { EntryKind, Permission, Policy } from "../api/policy.ts";
import { namesOf, printable, toBytes } from "./bytes.ts";
import type { Place } from "./place.ts";
import { matchingRules, verdict, type LeadsToOpen } from "./verdict.ts";

export interface ExplainOptions {
  /** What stands there. Absent: a directory when `path` ends in `/` or is the root, else a file. */
  readonly kind?: EntryKind;
  /** From `parsePolicy`: where each rule stands. */
  readonly places?: readonly (Place | undefined)[];
  readonly leadsToOpen?: LeadsToOpen;
  /** The codebase has an entry `workspace`: then `/workspace/x` is that, and not the mounted `/x`. */
  readonly hasWorkspaceEntry?: boolean;
}

export interface NamedRule {
  readonly index: number;
  readonly permission: Permission;
  readonly pattern: string;
  readonly place?: Place;
}

export interface Explanation {
  /** In its plain spelling, printable. */
  readonly path: string;
  readonly kind: EntryKind;
  readonly permission: Permission;
  readonly passage: boolean;
  /** The rule that decided. */
  readonly rule?: NamedRule;
  /** Rules that match too and were outranked, the next best first. */
  readonly outranked: readonly NamedRule[];
}

/** `path` as a person writes it: text, absolute or relative to the codebase's root, `/workspace/…` included. */
export function explain(policy: Policy, path: string, options: ExplainOptions = {}): Explanation {
  const all = namesOf(toBytes(path));
  const names = all[0] === "workspace" && path.startsWith("/") && options.hasWorkspaceEntry !== true ? all.slice(1) : all;
  const plain = `/${names.join("/")}`;
  const kind = options.kind ?? (names.length === 0 || path.endsWith("/") ? "dir" : "file");
  const { permission, ruleIndex, passage = false } = verdict(policy, plain, kind, options.leadsToOpen);
  const named = matchingRules(policy, plain, kind).map((index) => namedRule(policy, index, options.places));
  const rule = named.find(({ index }) => index === ruleIndex);
  return {
    path: printable(plain),
    kind,
    permission,
    passage,
    ...(rule === undefined ? {} : { rule }),
    outranked: named.filter((other) => other !== rule),
  };
}

function namedRule(policy: Policy, index: number, places: ExplainOptions["places"]): NamedRule {
  const { permission = "none", pattern = "" } = policy.rules[index] ?? {};
  const place = places?.[index];
  return { index, permission, pattern, ...(place === undefined ? {} : { place }) };
}

const MEANING: Readonly<Record<Permission, string>> = {
  none: "does not exist for the sandbox",
  view: "can be seen, its content cannot be read",
  read: "can be read and executed, not changed",
  write: "can be changed",
};
/** Outranked rules that are printed. */
const MAX_OUTRANKED = 10;

/** For a person. `source` is the name of the policy file, for places. */
export function explainText(explanation: Explanation, source?: string): string {
  const { path, kind, permission, passage, rule, outranked } = explanation;
  const lines = [`${path} (${kind}): ${permission} - ${MEANING[permission]}`];
  if (passage) lines.push("  no rule opens it, but something below can be: it lists only what leads there");
  else if (rule === undefined) lines.push("  no rule matches, and what no rule matches is none");
  else lines.push(`  by ${ruleText(rule, source)}`);
  for (const other of outranked.slice(0, MAX_OUTRANKED))
    lines.push(`  ${passage ? "not opened by" : "wins over"} ${ruleText(other, source)}`);
  if (outranked.length > MAX_OUTRANKED) lines.push(`  and over ${outranked.length - MAX_OUTRANKED} more`);
  return `${lines.join("\n")}\n`;
}

function ruleText(rule: NamedRule, source: string | undefined): string {
  const where =
    rule.place === undefined ? `rule ${rule.index + 1}` : `${source ?? "line "}${source === undefined ? "" : ":"}${rule.place.line}`;
  return `\`${rule.permission} ${printable(toBytes(rule.pattern)).replaceAll("\\\\", "\\")}\` (${where})`;
}
