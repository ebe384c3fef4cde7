// Holds the definition (verdict.ts), the compiled form and its walker to a third reading of the documented rules, made here and
// written without a look at them: braces are expanded, globs are matched by recursion, characters are found by Node.js's decoder.
// Invariant: at least 100,000 random policy and path pairs a run, names of any bytes but `/` and NUL.

import fc from "fast-check";
import { deepEqual, ok } from "node:assert/strict";
import { describe } from "vitest";
import type { EntryKind, Permission, Policy, Rule, Verdict } from "../api/policy.ts";
import { runs } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { compilePolicy, type CompiledPolicy, type PolicyState } from "./compile.ts";
import { rankedRules } from "./rules.ts";
import { judge } from "./verdict.ts";

// ---- the slow oracle ----

/** Characters of a name: what decodes to one character and encodes back to the same bytes, else one byte. */
function characters(name: string): string[] {
  const bytes = Buffer.from(name, "latin1");
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = [1, 2, 3, 4].find((size) => {
      const part = bytes.subarray(at, at + size);
      const text = part.toString("utf8");
      return Array.from(text).length === 1 && Buffer.from(text, "utf8").equals(part);
    });
    found.push(length === undefined ? `raw ${bytes[at]}` : bytes.subarray(at, at + length).toString("utf8"));
    at += length ?? 1;
  }
  return found;
}

const globAnswers = new Map<string, boolean>();
const expansions = new Map<string, readonly (readonly string[])[]>();

/** Every way to choose from the braces of a name, innermost first. */
function expandBraces(glob: string): string[] {
  const tokens = glob.match(/\\.|\[(?:\\.|[^\]\\])*\]|[^]/gu) ?? [];
  let open = -1;
  for (const [at, token] of tokens.entries()) {
    if (token === "{") open = at;
    if (token !== "}" || open === -1) continue;
    const inner = tokens.slice(open + 1, at);
    const options: string[] = [""];
    for (const part of inner) {
      if (part === ",") options.push("");
      else options[options.length - 1] += part;
    }
    return options.flatMap((option) => expandBraces([...tokens.slice(0, open), option, ...tokens.slice(at + 1)].join("")));
  }
  return [glob];
}

function globMatches(glob: string, name: string): boolean {
  const key = `${glob}\0${name}`;
  const known = globAnswers.get(key);
  if (known !== undefined) return known;
  const wanted = characters(name);
  const answer = expanded(glob).some((tokens) => tokensMatch(tokens, wanted));
  if (globAnswers.size > 50_000) globAnswers.clear();
  globAnswers.set(key, answer);
  return answer;
}

function expanded(glob: string): readonly (readonly string[])[] {
  const known = expansions.get(glob) ?? expandBraces(glob).map((plain) => plain.match(/\\.|\[(?:\\.|[^\]\\])*\]|[^]/gu) ?? []);
  if (expansions.size > 10_000) expansions.clear();
  expansions.set(glob, known);
  return known;
}

function tokensMatch(tokens: readonly string[], rest: readonly string[]): boolean {
  const [token, ...others] = tokens;
  if (token === undefined) return rest.length === 0;
  if (token === "*") return rest.some((_, at) => tokensMatch(others, rest.slice(at))) || tokensMatch(others, []);
  const [first, ...after] = rest;
  if (first === undefined) return false;
  return tokenTakes(token, first) && tokensMatch(others, after);
}

function tokenTakes(token: string, character: string): boolean {
  if (token === "?") return true;
  if (!token.startsWith("[")) return character === (token.startsWith("\\") ? token.slice(1) : token);
  const negated = token.startsWith("[!");
  const members = [...token.slice(negated ? 2 : 1, -1).matchAll(/(\\.|[^])(?:-(\\.|[^]))?/gu)];
  const plain = (member: string): number => (member.startsWith("\\") ? member.slice(1) : member).codePointAt(0) ?? 0;
  const code = character.startsWith("raw ") ? Infinity : (character.codePointAt(0) ?? 0);
  return members.some(([, low = "", high = low]) => plain(low) <= code && code <= plain(high)) !== negated;
}

/** The parts of a pattern as documented: without a leading `/` it matches at any depth. */
function partsOf(pattern: string): { parts: string[]; dirOnly: boolean } {
  const parts = pattern.split("/").filter((part) => part !== "");
  return { parts: pattern.startsWith("/") ? parts : ["**", ...parts], dirOnly: pattern.endsWith("/") };
}

function partsMatch(parts: readonly string[], names: readonly string[]): boolean {
  const [part, ...others] = parts;
  if (part === undefined) return names.length === 0;
  if (part === "**") return partsMatch(others, names) || (names.length > 0 && partsMatch(parts, names.slice(1)));
  const [name, ...after] = names;
  return name !== undefined && globMatches(part, name) && partsMatch(others, after);
}

/** Whether the pattern has something left to match below the directory `names`. */
function partsReach(parts: readonly string[], names: readonly string[]): boolean {
  const [part, ...others] = parts;
  if (part === undefined) return false;
  if (part === "**") return true;
  const [name, ...after] = names;
  return name === undefined || (globMatches(part, name) && partsReach(others, after));
}

function ruleMatches(rule: Rule, names: readonly string[], kind: EntryKind): boolean {
  const { parts, dirOnly } = partsOf(rule.pattern);
  if (partsMatch(parts, names) && (kind === "dir" || !dirOnly)) return true;
  return coversBelow(rule) && names.some((_, length) => partsMatch(parts, names.slice(0, length)));
}

function coversBelow(rule: Rule): boolean {
  return rule.subtree !== false || rule.pattern.endsWith("**");
}

function outranks(policy: Policy, a: number, b: number): boolean {
  const difference = (policy.rules[a]?.priority ?? 0) - (policy.rules[b]?.priority ?? 0);
  return b === -1 || difference > 0 || (difference === 0 && a > b);
}

function best(policy: Policy, fits: (rule: Rule) => boolean): number {
  return policy.rules.reduce((winner, rule, index) => (fits(rule) && outranks(policy, index, winner) ? index : winner), -1);
}

function oracle(policy: Policy, names: readonly string[], kind: EntryKind): Verdict & { readonly mayLead: boolean } {
  const ruleIndex = best(policy, (rule) => ruleMatches(rule, names, kind));
  const permission = policy.rules[ruleIndex]?.permission ?? "none";
  const cover = best(policy, (rule) => coversBelow(rule) && ruleMatches(rule, names, "dir"));
  const opens = (rule: Rule | undefined): boolean => rule !== undefined && rule.permission !== "none";
  const mayLead =
    kind === "dir" &&
    (opens(policy.rules[cover]) ||
      policy.rules.some((rule, index) => opens(rule) && outranks(policy, index, cover) && partsReach(partsOf(rule.pattern).parts, names)));
  const decided = ruleIndex === -1 ? { permission } : { permission, ruleIndex };
  return permission === "none" && mayLead ? { permission: "view", passage: true, mayLead } : { ...decided, mayLead };
}

// ---- what is tried ----

const LETTERS = ["a", "b", "c", ".", "-", " ", "é", "日", "\u{1f600}", "e\u0301", "\n", "#", "K", "\u212a"];
const escaped = (letter: string): string =>
  Array.from(letter)
    .map((character) => (" -#,!^".includes(character) ? `\\${character}` : character))
    .join("");
const letter = fc.constantFrom(...LETTERS);
const plainLetter = fc.constantFrom("a", "b", "c", "a", "b", "é");
const set = fc
  .tuple(
    fc.boolean(),
    fc.array(
      fc.oneof(
        letter.map((text) => escaped(Array.from(text)[0] ?? "a")),
        fc.constantFrom("a-b", "b-z", "à-ü", "\\]", "\\\\"),
      ),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([negated, members]) => `[${negated ? "!" : ""}${members.join("")}]`);
const { glob } = fc.letrec<{ glob: string; atom: string; either: string }>((tie) => ({
  either: fc.array(tie("glob"), { minLength: 2, maxLength: 3 }).map((options) => `{${options.join(",")}}`),
  atom: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    { arbitrary: plainLetter, weight: 6 },
    { arbitrary: letter.map(escaped), weight: 3 },
    { arbitrary: fc.constantFrom("*", "?"), weight: 4 },
    { arbitrary: set, weight: 2 },
    { arbitrary: fc.constantFrom("\\*", "\\?", "\\[", "\\{", "\\\\"), weight: 1 },
    { arbitrary: tie("either"), weight: 1 },
  ),
  glob: fc
    .array(tie("atom"), { minLength: 1, maxLength: 4 })
    .map((atoms) => atoms.filter((atom, at) => atom !== "*" || atoms[at - 1] !== "*").join("")),
}));
const part = fc.oneof(
  { arbitrary: glob.filter((text) => !/^(\\?\.){1,2}$/.test(text)), weight: 4 },
  { arbitrary: fc.constant("**"), weight: 2 },
);
const pattern = fc
  .tuple(fc.boolean(), fc.array(part, { minLength: 1, maxLength: 4 }), fc.boolean(), fc.integer({ min: 0, max: 30 }))
  .map(([anchored, parts, dirOnly, root]) => (root === 0 ? "/" : `${anchored ? "/" : ""}${parts.join("/")}${dirOnly ? "/" : ""}`))
  .filter((text) => !text.startsWith("!") && !text.startsWith("~"));
const rule: fc.Arbitrary<Rule> = fc.record(
  {
    pattern,
    permission: fc.constantFrom<Permission>("none", "view", "read", "write"),
    priority: fc.constantFrom(0, 0, 1, -1),
    subtree: fc.constantFrom(true, false),
  },
  { requiredKeys: ["pattern", "permission"] },
);
const policies: fc.Arbitrary<Policy> = fc.array(rule, { maxLength: 7 }).map((rules) => ({ rules }));
const anyByte = fc
  .integer({ min: 1, max: 255 })
  .filter((byte) => byte !== 0x2f)
  .map((byte) => String.fromCharCode(byte));
const asBytes = (text: string): string => Buffer.from(text, "utf8").toString("latin1");
const name = fc
  .oneof(
    {
      arbitrary: fc
        .array(fc.oneof({ arbitrary: plainLetter, weight: 5 }, { arbitrary: letter, weight: 2 }), { minLength: 1, maxLength: 4 })
        .map((letters) => asBytes(letters.join(""))),
      weight: 6,
    },
    {
      arbitrary: fc.array(fc.oneof(anyByte, letter.map(asBytes)), { minLength: 1, maxLength: 5 }).map((bytes) => bytes.join("")),
      weight: 1,
    },
  )
  .filter((text) => text !== "." && text !== "..");
const paths = fc.array(name, { maxLength: 5 });
const kinds = fc.constantFrom<EntryKind>("file", "dir", "dir", "link", "other");
const PAIRS_PER_POLICY = 50;
const POLICIES = 2_100;
const trials = fc.tuple(policies, fc.array(fc.tuple(paths, kinds), { minLength: PAIRS_PER_POLICY, maxLength: PAIRS_PER_POLICY }));

function walked(compiled: CompiledPolicy, names: readonly string[], kind: EntryKind): PolicyState {
  return names.reduce((state, text, index) => compiled.step(state, text, index === names.length - 1 ? kind : "dir"), compiled.root);
}

describe("a policy means the same to the definition, the compiled form and a slow reading", () => {
  verifies(
    "policy/one-verdict",
    "100,000 random paths get one verdict from all readings",
    () => {
      let pairs = 0;
      const met = new Map<string, number>();
      fc.assert(
        fc.property(trials, ([policy, entries]) => {
          const rules = rankedRules(policy);
          const compiled = compilePolicy(policy);
          for (const [names, someKind] of entries) {
            const kind = names.length === 0 ? "dir" : someKind;
            const { mayLead, ...wanted } = oracle(policy, names, kind);
            const path = `/${names.join("/")}`;
            const state = walked(compiled, names, kind);
            const closed = compiled.verdict(path, kind, () => false);
            const answers = [
              judge(rules, path, { kind, leadsToOpen: () => true }),
              compiled.verdict(path, kind),
              compiled.mayLead(state),
              { permission: compiled.permissionOf(state), ruleIndex: compiled.ruleIndexOf(state) },
              judge(rules, path, { kind, leadsToOpen: () => false }),
            ];
            const expected = [wanted, wanted, mayLead, { permission: closed.permission, ruleIndex: closed.ruleIndex ?? -1 }, closed];
            // Text first: the slow comparison is only wanted for its message.
            if (JSON.stringify(answers) !== JSON.stringify(expected)) deepEqual(answers, expected);
            pairs++;
            const seen = wanted.passage === true ? "passage" : wanted.ruleIndex === undefined ? "no rule" : wanted.permission;
            met.set(seen, (met.get(seen) ?? 0) + 1);
          }
        }),
        runs(POLICIES),
      );
      ok(pairs >= 100_000, `${pairs} pairs`);
      // A generator that never meets a case proves nothing about it.
      for (const seen of ["passage", "no rule", "none", "view", "read", "write"])
        ok((met.get(seen) ?? 0) > 1_000, `${seen}: ${met.get(seen)}`);
    },
    120_000,
  );
});
