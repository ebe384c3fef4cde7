// Places in a policy file, and what the readers of both formats hand to parse.ts. Types and one constructor; it reads nothing.
// Invariant: every problem has a line and a column, counted from 1.

import type { PolicyProblem, Rule } from "../api/policy.ts";

/** 1-based; columns count UTF-16 units. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A rule as it stands in a file. */
export interface FileRule {
  readonly rule: Rule;
  readonly place: Place;
  /** The place of a character of the pattern, by its offset. */
  readonly placeAt: (offset: number) => Place;
}

/** What one of the readers found. `problems` without `rules` left out: with a problem there is no policy. */
export interface FilePolicy {
  readonly rules: readonly FileRule[];
  readonly problems: readonly PolicyProblem[];
  readonly extends?: { readonly name: string; readonly place: Place };
  readonly live?: boolean;
  readonly audit?: boolean;
}

export function problemAt(place: Place, message: string, severity: PolicyProblem["severity"] = "error"): PolicyProblem {
  return { severity, line: place.line, column: place.column, message };
}
