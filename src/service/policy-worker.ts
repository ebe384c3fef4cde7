// The thread in which policies of owners are judged: whatever a policy costs, the server's own thread does not pay it. Started and ended by
// policy-thread.ts alone. Invariant: it holds nothing of the server; an answer is bounded and is data.

import { parentPort } from "node:worker_threads";
import { CorralError, type ErrorBody } from "../api/errors.ts";
import { MAX_TOLD_PROBLEMS, MAX_TOLD_RULES } from "../api/limits.ts";
import type { CheckOptions, ExplainedRule, PolicyCheck, PolicyExplanation } from "../api/policies.ts";
import type { EntryKind, Policy } from "../api/policy.ts";
import { explain, explainText } from "../policy/explain.ts";
import { lintPolicy } from "../policy/lint.ts";
import { parsePolicy } from "../policy/parse.ts";
import { preset } from "../policy/presets.ts";

export type PolicyQuestion =
  | { readonly ask: "check"; readonly text: string; readonly format?: NonNullable<CheckOptions["format"]> }
  | { readonly ask: "explain"; readonly policy: string | Pick<Policy, "rules">; readonly path: string; readonly kind?: EntryKind };

export type PolicyAnswer = { readonly answer: PolicyCheck | PolicyExplanation } | { readonly error: ErrorBody };

function check({ text, format }: Extract<PolicyQuestion, { ask: "check" }>): PolicyCheck {
  const parsed = parsePolicy(text, format === undefined ? {} : { format });
  const warnings = parsed.policy === undefined ? [] : lintPolicy(parsed.policy, { places: parsed.places });
  const problems = [...parsed.problems, ...warnings].toSorted((a, b) => a.line - b.line || a.column - b.column);
  const errors = problems.filter(({ severity }) => severity === "error").length;
  return {
    problems: problems.slice(0, MAX_TOLD_PROBLEMS),
    counts: { errors, warnings: problems.length - errors },
    ...(parsed.policy === undefined ? {} : { policy: { rules: parsed.policy.rules } }),
  };
}

function explained({ policy, path, kind }: Extract<PolicyQuestion, { ask: "explain" }>): PolicyExplanation {
  const found = explain(typeof policy === "string" ? named(policy) : policy, path, kind === undefined ? {} : { kind });
  const text = explainText(found);
  const { outranked, rule, ...rest } = found;
  const shown = outranked.slice(0, MAX_TOLD_RULES).map(told);
  return { ...rest, ...(rule === undefined ? {} : { rule: told(rule) }), outranked: shown, counts: { outranked: outranked.length }, text };
}

function named(name: string): Policy {
  const { open, hidden, dirs } = preset(name);
  return { rules: [...open, ...hidden], dirs };
}

function told({ index, permission, pattern }: ExplainedRule): ExplainedRule {
  return { index, permission, pattern };
}

function answered(question: PolicyQuestion): PolicyAnswer {
  try {
    return { answer: question.ask === "check" ? check(question) : explained(question) };
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    const problems = error.details?.["problems"];
    const details = Array.isArray(problems) ? { problems: problems.slice(0, MAX_TOLD_PROBLEMS) } : undefined;
    return { error: { code: error.code, message: error.message, ...(details === undefined ? {} : { details }) } };
  }
}

parentPort?.on("message", (question: PolicyQuestion) => parentPort?.postMessage(answered(question)));
parentPort?.postMessage("ready" satisfies PolicyAnswer | "ready");
