// The repository as the house tests see it: which files there are and what stands in them. Not a walker of user code.
// Invariant: only files that a checkout holds; nothing that a build, an install or a test run made.

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "../..");

const NOT_OURS = ["**/node_modules/**", ".node/**", ".git/**", "**/build/**", "coverage/**", "bench/results/**", "test/fixtures/**"];

/** Files of the checkout that match, as paths relative to the root, sorted. */
export function files(...patterns: string[]): string[] {
  return [...new Set(globSync(patterns, { cwd: ROOT, exclude: NOT_OURS, withFileTypes: false }))].sort();
}

/** The text of a file of the checkout. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** 1-based line of a place in a text. */
export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}
