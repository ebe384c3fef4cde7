// Comparing patterns: "certainly includes" and "may meet" against what the definition says of paths.

import fc from "fast-check";
import { equal, ok } from "node:assert/strict";
import { it } from "vitest";
import type { Rule } from "../api/policy.ts";
import { includes, mayMeet } from "./overlap.ts";
import { rankedRules, trimmed, type ReadRule } from "./rules.ts";
import { verdict } from "./verdict.ts";

function shape(rule: Omit<Rule, "permission">): ReadRule {
  const [read] = rankedRules({ rules: [{ ...rule, permission: "read" }] });
  if (read === undefined) throw new Error(rule.pattern);
  return read;
}

const part = fc.constantFrom("a", "b", "*", "a*", "*b", "?", "**", "{a,b}");
const rule = fc.record(
  {
    pattern: fc
      .tuple(fc.constantFrom("/", ""), fc.array(part, { minLength: 1, maxLength: 3 }), fc.constantFrom("", "/"))
      .map(([root, parts, end]) => `${root}${parts.join("/")}${end}`),
    subtree: fc.boolean(),
  },
  { requiredKeys: ["pattern"] },
);
const names = ["a", "b", "ab", "c"];
const PATHS = [
  "/",
  ...names.map((a) => `/${a}`),
  ...names.flatMap((a) => names.map((b) => `/${a}/${b}`)),
  ...names.flatMap((a) => names.flatMap((b) => names.map((c) => `/${a}/${b}/${c}`))),
];

function matches(tried: Omit<Rule, "permission">, path: string, kind: "file" | "dir"): boolean {
  return verdict({ rules: [{ ...tried, permission: "write" }] }, path, kind).permission === "write";
}

it("what is said to include matches every path that the other matches", () => {
  let certain = 0;
  fc.assert(
    fc.property(rule, rule, (outer, inner) => {
      if (!includes(shape(outer), shape(inner))) return;
      certain++;
      for (const path of PATHS) {
        for (const kind of ["file", "dir"] as const) if (matches(inner, path, kind)) ok(matches(outer, path, kind), `${path} ${kind}`);
      }
    }),
    { numRuns: 3_000 },
  );
  ok(certain > 300, `${certain}`);
});

it("what cannot meet has no path in common", () => {
  let apart = 0;
  fc.assert(
    fc.property(rule, rule, (one, two) => {
      const other = shape({ ...two, subtree: false });
      if (mayMeet(shape(one), other.pattern.segments)) return;
      apart++;
      for (const path of PATHS) ok(!(matches(one, path, "dir") && matches({ pattern: two.pattern, subtree: false }, path, "dir")), path);
    }),
    { numRuns: 3_000 },
  );
  ok(apart > 100, `${apart}`);
});

it("ordinary pairs are told", () => {
  const sure = (outer: string, inner: string): boolean => includes(shape({ pattern: outer }), shape({ pattern: inner }));
  for (const [outer, inner] of [
    ["**", "/a/b"],
    ["/a", "/a/b/*.c"],
    ["/a/**", "/a"],
    ["*.key", "/x/y.key"],
    ["*.key", "*.pub.key"],
    ["secrets/", "/a/secrets/*"],
    [".env*", ".env.*"],
    ["/a/*", "/a/x*"],
  ] as const) {
    equal(sure(outer, inner), true, `${outer} ${inner}`);
  }
  for (const [outer, inner] of [
    ["/a/b", "**"],
    ["/a/*.c", "/a"],
    ["secrets/", "secrets"],
    ["/a/*/c", "/a/**/c"],
    ["*.key", "*.ke?"],
    ["*b?", "?b"],
    ["a*b", "ac*"],
  ] as const)
    equal(sure(outer, inner), false, `${outer} ${inner}`);
  equal(mayMeet(shape({ pattern: "/docs" }), trimmed(shape({ pattern: "/src/**" }))), false);
});
