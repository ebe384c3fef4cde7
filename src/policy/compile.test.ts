// The compiled form where the property test does not look: what a walker may skip, caches that are full, and policies made to hurt.
// Time is not measured here (bench/ does); a policy that blew up would not end within the test's time.

import fc from "fast-check";
import { deepEqual, equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { Permission, Policy, Rule } from "../api/policy.ts";
import { compilePolicy, MAX_CACHE_CELLS, type CompiledPolicy, type PolicyState } from "./compile.ts";
import { rankedRules } from "./rules.ts";
import { judge } from "./verdict.ts";

function reading(...patterns: string[]): Policy {
  return { rules: patterns.map((pattern) => ({ pattern, permission: "read" })) };
}

/** Returns the cells that the compiled form kept. */
function expectAgreement(policy: Policy, paths: readonly string[]): number {
  const compiled = compilePolicy(policy);
  const rules = rankedRules(policy);
  for (const path of paths) compiled.verdict(path, "file");
  // Again, from the caches or past them; the definition is slow, so it is asked about a part of many.
  const asked = paths.filter((_, index) => index % Math.ceil(paths.length / 200) === 0);
  for (const path of asked) deepEqual(compiled.verdict(path, "file"), judge(rules, path, { kind: "file", leadsToOpen: () => true }), path);
  return compiled.cacheCells();
}

/** A repeatable sequence of numbers below `limit`. */
function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const part = fc.constantFrom("a", "b", "*", "a*", "?", "**");
const rule: fc.Arbitrary<Rule> = fc.record(
  {
    pattern: fc
      .tuple(fc.constantFrom("/", ""), fc.array(part, { minLength: 1, maxLength: 3 }), fc.constantFrom("", "/"))
      .map(([root, parts, end]) => `${root}${parts.join("/")}${end}`),
    permission: fc.constantFrom<Permission>("none", "view", "read", "write"),
    subtree: fc.boolean(),
  },
  { requiredKeys: ["pattern", "permission"] },
);
const NAMES = ["a", "b", "ab", "c"];

verifies("policy/walk-may-stop", "a walker that stops where nothing can differ below misses nothing", () => {
  const seen = { stopped: 0, differing: 0 };
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), (rules) => {
      const compiled = compilePolicy({ rules });
      expectOutlook(compiled, compiled.root, { depth: 3, seen });
    }),
    { numRuns: 500 },
  );
  ok(seen.stopped > 1_000 && seen.differing > 1_000, JSON.stringify(seen));
});

/** The levels found below `state`; checks what the state said of them. */
function expectOutlook(
  compiled: CompiledPolicy,
  state: PolicyState,
  at: { readonly depth: number; readonly seen: { stopped: number; differing: number } },
): ReadonlySet<Permission> {
  const below = new Set<Permission>();
  if (at.depth === 0) return below;
  for (const name of NAMES) {
    for (const kind of ["file", "dir"] as const) {
      const child = compiled.step(state, name, kind);
      below.add(compiled.permissionOf(child));
      if (kind === "dir") for (const level of expectOutlook(compiled, child, { ...at, depth: at.depth - 1 })) below.add(level);
    }
  }
  const own = compiled.permissionOf(state);
  if (compiled.mayOpenBelow(state)) at.seen.differing++;
  else {
    at.seen.stopped++;
    deepEqual([...below], [own]);
  }
  if (!compiled.mayLead(state)) deepEqual([...below], ["none"]);
  return below;
}

it("a uniform tree is told as one, a mixed one is not", () => {
  const compiled = compilePolicy({
    rules: [
      { pattern: "**", permission: "read" },
      { pattern: "/secrets/**", permission: "none" },
      { pattern: "/a/*.key", permission: "none" },
    ],
  });
  const at = (...names: string[]): PolicyState => names.reduce((state, name) => compiled.step(state, name, "dir"), compiled.root);
  equal(compiled.mayOpenBelow(compiled.root), true);
  equal(compiled.mayOpenBelow(at("secrets")), false);
  equal(compiled.mayLead(at("secrets")), false);
  equal(compiled.mayOpenBelow(at("a")), true);
  equal(compiled.mayOpenBelow(at("a", "b")), false);
  equal(compiled.mayOpenBelow(at("src")), false);
});

verifies("policy/bounded-caches", "a policy whose caches are full still gives the same answers", () => {
  // Each of the last 20 letters matters: 2^20 state sets, more than the cache of names holds.
  const names = `*a${"?".repeat(20)}z*`;
  const random = numbers(1);
  const paths = Array.from({ length: 1_000 }, () => `/${Array.from({ length: 200 }, () => "abz"[random(3)]).join("")}`);
  const ofNames = expectAgreement(reading(names, "*b", "/z*", "literal"), [...paths, "/literal", "/é", "/ab"]);
  // The same with whole names: the cache of places.
  const deep = `**/a/${"*/".repeat(20)}z/**`;
  const trees = Array.from({ length: 1_500 }, () => `/${Array.from({ length: 100 }, () => "ab"[random(2)]).join("/")}`);
  const ofPlaces = expectAgreement({ rules: [...reading(deep).rules, { pattern: "**/b/a/b/z", permission: "none" }] }, trees);
  // Full, or it proved nothing; and not beyond.
  for (const cells of [ofNames, ofPlaces]) ok(cells > 3_900_000 && cells <= MAX_CACHE_CELLS, `${cells} cells`);
});

verifies("policy/no-blow-up", "no pattern blows up: bombs compile and judge in time linear in policy and path", () => {
  const long = `/${"a/".repeat(2_000)}b`;
  const bombs: readonly Policy[] = [
    reading(`${"**/".repeat(1_300)}a`),
    reading(`${"**/a/".repeat(800)}z`),
    reading(`${"**/*a*/".repeat(580)}z`),
    reading(`${"*a".repeat(2_000)}z`),
    reading("{a,b}".repeat(800)),
    reading(`${"{a,".repeat(16)}b${"}".repeat(16)}`.repeat(40)),
    reading(`${"{*,a*}".repeat(600)}z`),
    reading("{,a}".repeat(1_000)),
    reading(`[${"!-~".repeat(1_300)}]*z`),
  ];
  for (const policy of bombs) {
    const compiled = compilePolicy(policy);
    for (const path of [long, `/${"a".repeat(255)}`, `/${"a".repeat(254)}z`, `/${"a".repeat(4_095)}`])
      ok(compiled.verdict(path, "file").permission);
  }
});

it("100,000 rules compile, and find their paths", () => {
  const rules = Array.from({ length: 100_000 }, (_, i): Rule => {
    const patterns = [`*.ext${i}`, `/src/mod${i}/**/gen_*`, `node_${i}/`, `/pkg${i % 50}/file${i}.ts`];
    return { pattern: patterns[i % 4] ?? "", permission: "read" };
  });
  const compiled = compilePolicy({ rules });
  deepEqual(compiled.verdict("/x/y.ext4000", "file"), { permission: "read", ruleIndex: 4_000 });
  deepEqual(compiled.verdict("/src/mod4001/a/b/gen_x/y", "file"), { permission: "read", ruleIndex: 4_001 });
  deepEqual(compiled.verdict("/node_4002/a", "file"), { permission: "read", ruleIndex: 4_002 });
  deepEqual(compiled.verdict("/pkg3/file4003.ts", "file"), { permission: "read", ruleIndex: 4_003 });
  deepEqual(compiled.verdict("/pkg4/file4003.ts", "file"), { permission: "none" });
});

it("many globs that match one name at once agree with the definition", () => {
  const policy: Policy = {
    rules: Array.from({ length: 200 }, (_, i) => ({
      pattern: i % 2 === 0 ? `*${"?".repeat(i / 2)}/x${i}` : `/*${"a".repeat(i % 9)}*/**/y*`,
      permission: i % 3 === 0 ? "none" : "read",
    })),
  };
  expectAgreement(policy, ["/aaaaaaaaaa/x4", "/aaaaaaaaaa/x8/z", "/aaaa/b/y", "/b/y", "/b/x100", `/${"c".repeat(60)}/x100`]);
});
