// What a canon is made of before it means anything: files of text, places in them, and what is wrong there.
// Invariant: a place counts lines and columns from 1, columns in UTF-16 units as editors do.

import type { CanonProblem, CanonProblemCode } from "../../api/loom.ts";

/** Path below the world's folder, with `/`, to the file's text. */
export type CanonFiles = ReadonlyMap<string, string>;

export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Problems of one canon, as they are found; told in the order of files and lines. */
export class Problems {
  readonly #found = new Map<string, CanonProblem>();

  error(code: CanonProblemCode, place: Place, message: string): void {
    this.#add({ code, severity: "error", ...placeOf(place), message });
  }

  warn(code: CanonProblemCode, place: Place, message: string): void {
    this.#add({ code, severity: "warning", ...placeOf(place), message });
  }

  get failed(): boolean {
    return [...this.#found.values()].some(({ severity }) => severity === "error");
  }

  list(): readonly CanonProblem[] {
    return [...this.#found.values()].sort(
      (one, other) => compare(one.file, other.file) || one.line - other.line || one.column - other.column || compare(one.code, other.code),
    );
  }

  /** The same thing said twice of one place is said once: a file may be included often. */
  #add(problem: CanonProblem): void {
    if (this.#found.size < MAX_PROBLEMS) this.#found.set(`${problem.code}\0${problem.file}\0${problem.line}\0${problem.column}`, problem);
  }
}

const MAX_PROBLEMS = 1_000;

function placeOf({ file, line, column }: Place): Place {
  return { file, line, column };
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
