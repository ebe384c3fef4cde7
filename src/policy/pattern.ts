// Reads one pattern into segments. It judges no path (verdict.ts, compile.ts do) and expands nothing: what it returns is as
// long as the pattern, however its braces nest.
// Invariant: a pattern that could not mean what its author thought is an error with a place, never a pattern that matches nothing:
// a `none` rule that matches nothing would fail open.

import { MAX_PATTERN_BYTES } from "../api/limits.ts";
import { parseName, type Problem, type Segment } from "./segment.ts";

export interface Pattern {
  /** In order; a pattern without a leading `/` begins with `deep`. Never two `deep` in a row. */
  readonly segments: readonly Segment[];
  /** The pattern ended in `/`: it matches directories only. */
  readonly dirOnly: boolean;
  /** The pattern began with `/`. */
  readonly anchored: boolean;
}

export type PatternResult = { readonly pattern: Pattern } | { readonly problem: Problem };

/** Reads `text`; a problem carries the offset (UTF-16 units) of what is wrong. */
export function parsePattern(text: string): PatternResult {
  const early = wholeProblem(text);
  if (early !== undefined) return { problem: early };
  const anchored = text.startsWith("/");
  const segments: Segment[] = anchored ? [] : [{ kind: "deep" }];
  let at = anchored ? 1 : 0;
  let dirOnly = text === "/";
  while (at < text.length) {
    const end = segmentEnd(text, at);
    const part = text.slice(at, end);
    const read = parsePart(part);
    if ("problem" in read) return { problem: { offset: at + read.problem.offset, message: read.problem.message } };
    if (read.kind !== "deep" || segments.at(-1)?.kind !== "deep") segments.push(read);
    dirOnly = end === text.length - 1;
    at = end + 1;
  }
  return { pattern: { segments, dirOnly, anchored } };
}

/** The offset of the `/` that ends the segment at `at`, or the end. A `/` after `\` or in brackets ends it too: a name never holds one. */
function segmentEnd(text: string, at: number): number {
  const end = text.indexOf("/", at);
  return end === -1 ? text.length : end;
}

function parsePart(part: string): Segment | { readonly problem: Problem } {
  if (part === "") return { problem: { offset: 0, message: "an empty name between two `/` matches nothing; write one `/`" } };
  if (part === "**") return { kind: "deep" };
  return parseName(part);
}

/** Spellings that other tools give a meaning which this grammar does not have. Taken literally each would match nothing. */
function wholeProblem(text: string): Problem | undefined {
  if (text === "") return { offset: 0, message: "the pattern is empty; `/` is the root, `**` is everything" };
  const lone = loneSurrogate(text);
  if (lone !== -1) return { offset: lone, message: "half of a surrogate pair has no bytes and matches nothing" };
  if (Buffer.byteLength(text, "utf8") > MAX_PATTERN_BYTES) {
    return { offset: 0, message: `the pattern is longer than ${MAX_PATTERN_BYTES} bytes, more than any path` };
  }
  const nul = text.indexOf("\0");
  if (nul !== -1) return { offset: nul, message: "no file name holds a NUL byte" };
  if (text.startsWith("!"))
    return { offset: 0, message: "there is no negation: write a later rule, the last match wins; a literal `!` is `\\!`" };
  if (text === "~" || text.startsWith("~/"))
    return { offset: 0, message: "`~` is no home directory here: paths are relative to the codebase; a literal `~` is `\\~`" };
  return undefined;
}

function loneSurrogate(text: string): number {
  if (text.isWellFormed()) return -1;
  let at = 0;
  for (const character of text) {
    if (!character.isWellFormed()) return at;
    at += character.length;
  }
  return -1;
}
