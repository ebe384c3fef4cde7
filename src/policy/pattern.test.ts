// The grammar of patterns: what is refused, and where. What patterns match stands in verdict.test.ts and policy.property.test.ts.
// Invariant: each row of the table is a spelling that would match nothing, or something else than meant, if it were taken literally.

import { equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { parsePattern } from "./pattern.ts";

function problemOf(text: string): { readonly offset: number; readonly message: string } {
  const result = parsePattern(text);
  ok("problem" in result, `${text} was taken`);
  return result.problem;
}

/** Pattern, offset of what is wrong, a word of the message. */
const REFUSED: readonly (readonly [string, number, string])[] = [
  ["", 0, "empty"],
  ["/a//b", 3, "empty name"],
  ["//", 1, "empty name"],
  ["a//", 2, "empty name"],
  ["/a/./b", 3, "no `.`"],
  ["../a", 0, "no `..`"],
  ["/a/\\.", 3, "no `.`"],
  ["/a**", 2, "whole name"],
  ["**a", 0, "whole name"],
  ["/src/**.ts", 5, "whole name"],
  ["/a/***", 3, "whole name"],
  ["{a,**}", 3, "whole name"],
  ["/a[b", 2, "not closed"],
  ["/a[b/c]", 2, "not closed"],
  ["[]a]", 0, "empty"],
  ["[!]", 0, "empty"],
  ["[^a]", 1, "negated"],
  ["[z-a]", 1, "reversed"],
  ["[[:alpha:]]", 1, "named classes"],
  ["/x/{a", 3, "not closed"],
  ["{a/b,c}", 0, "not closed"],
  ["a{b}", 1, "two choices"],
  ["{}", 0, "two choices"],
  ["{,}", 0, "empty name"],
  ["a}", 1, "closes nothing"],
  ["a]", 1, "closes nothing"],
  ["a\\", 1, "escapes"],
  ["a\\/b", 1, "escapes"],
  ["!a", 0, "no negation"],
  ["~/.ssh", 0, "home"],
  ["a\0b", 1, "NUL"],
  ["a\ud800b", 1, "surrogate"],
  ["a".repeat(4097), 0, "longer"],
  ["{a,".repeat(17) + "}".repeat(17), 48, "nest"],
];

verifies("policy/malformed-refused", "a pattern that would match nothing, or not what was meant, is refused at its place", () => {
  for (const [text, offset, word] of REFUSED) {
    const problem = problemOf(text);
    equal(problem.offset, offset, `${text}: ${problem.message}`);
    ok(problem.message.includes(word), `${text}: ${problem.message}`);
  }
});

it("every spelling of the grammar is taken", () => {
  for (const text of [
    "/",
    "**",
    "/**",
    "**/",
    "*",
    "/a/",
    "[a-]",
    "[!a-z]",
    "[\\]]",
    "{a,b{c,d}}",
    "{a,}b",
    "\\*",
    "\\{\\}",
    "/a b",
    "a".repeat(4096),
    "/ä/日",
    "a,b",
  ]) {
    ok("pattern" in parsePattern(text), text);
  }
});

it("what a pattern needs in memory does not grow with what its braces stand for", () => {
  const result = parsePattern("{a,b}".repeat(800));
  ok("pattern" in result);
  ok(JSON.stringify(result.pattern).length < 400 * 800);
});
