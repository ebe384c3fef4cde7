// Errors and notes for people, on stderr. Invariant: one or two inert lines with the code, never a stack trace, and nothing of ours
// on stdout, which belongs to the program that runs.

import { errorCode } from "../api/errors.ts";
import type { PolicyProblem } from "../api/policy.ts";
import { inert } from "../base/inert.ts";

/** Problems of a policy file that are shown with the error; `corral policy lint` shows all. */
const PROBLEMS_SHOWN = 5;

export function tell(line: string): void {
  process.stderr.write(`corral: ${inert(line)}\n`);
}

/** Prints what went wrong. A defect of ours shows its stack only where `CORRAL_DEBUG` is set. */
export function tellError(error: unknown): void {
  const { code, message } = described(error);
  tell(`${code}: ${message}`);
  const problems = problemsOf(error);
  for (const { line, column, message: text } of problems.slice(0, PROBLEMS_SHOWN)) {
    const place = `line ${line}, column ${column}`;
    if (!message.includes(place)) process.stderr.write(`  ${place}: ${inert(text)}\n`);
  }
  if (process.env["CORRAL_DEBUG"] !== undefined && error instanceof Error)
    process.stderr.write(`${inert(error.stack ?? "").replaceAll("\\x0a", "\n")}\n`);
}

/** The error as `--json` prints it. */
export function errorObject(error: unknown): {
  readonly error: { readonly code: string; readonly message: string; readonly problems?: readonly PolicyProblem[] };
} {
  const problems = problemsOf(error);
  return { error: { ...described(error), ...(problems.length === 0 ? {} : { problems }) } };
}

function described(error: unknown): { readonly code: string; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: errorCode(error) ?? "internal", message };
}

function problemsOf(error: unknown): readonly PolicyProblem[] {
  if (errorCode(error) !== "policy_invalid") return [];
  const { details } = error as { readonly details?: { readonly problems?: readonly PolicyProblem[] } };
  return details?.problems ?? [];
}
