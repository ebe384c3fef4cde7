// Policy files in their three spellings: what is read, and the line and column of what is not.

import { deepEqual, equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { Policy } from "../api/policy.ts";
import { parsePolicy, type ParseOptions } from "./parse.ts";

function read(text: string, options: ParseOptions = {}): Policy {
  const { policy, problems } = parsePolicy(text, options);
  deepEqual(problems, []);
  if (policy === undefined) throw new Error("no policy and no problem");
  return policy;
}

/** Each problem as `line:column word`, where the word is looked for in the message. */
function expectProblems(text: string, wanted: readonly (readonly [number, number, string])[], options: ParseOptions = {}): void {
  const { policy, problems } = parsePolicy(text, options);
  equal(policy, undefined, text);
  deepEqual(
    problems.map(({ line, column }) => [line, column]),
    wanted.map(([line, column]) => [line, column]),
    `${text}: ${JSON.stringify(problems)}`,
  );
  for (const [index, [, , word]] of wanted.entries()) ok(problems[index]?.message.includes(word), `${word} in ${problems[index]?.message}`);
}

it("reads lines: comments, blanks, escapes, Windows ends, a byte order mark", () => {
  const text = "\ufeff# what the agent may do\r\n\r\n  read\t**   # everything\r\nnone /a\\ b\r\nwrite /a#b\nview \\#x";
  deepEqual(read(text).rules, [
    { pattern: "**", permission: "read" },
    { pattern: "/a\\ b", permission: "none" },
    { pattern: "/a#b", permission: "write" },
    { pattern: "\\#x", permission: "view" },
  ]);
  deepEqual(read("").rules, []);
});

it("reads YAML and JSON, bare lists and policies, and tells them from lines", () => {
  const rules: Policy["rules"] = [{ pattern: "*.key", permission: "none", priority: 2, subtree: false }];
  deepEqual(read('- { pattern: "*.key", permission: none, priority: 2, subtree: false }').rules, rules);
  deepEqual(read('rules:\n  - pattern: "*.key"\n    permission: none\n    priority: 2\n    subtree: false\n').rules, rules);
  deepEqual(read(JSON.stringify({ rules, live: true, audit: false })), { rules, live: true, audit: false });
  deepEqual(read(JSON.stringify(rules, undefined, "\t"), { format: "json" }).rules, rules);
  deepEqual(read("rules: []").rules, []);
  equal(read('{"rules":[{"pattern":"/\\u00e9\\ud83d\\ude00","permission":"read"}]}', { format: "json" }).rules[0]?.pattern, "/é\u{1f600}");
});

verifies("policy/places", "an error in a policy file is told with its line and column, in every spelling", () => {
  expectProblems('read **\nhide /a\nnone /a[b\nnone\nread /a /b\nnone "/a"\n', [
    [2, 1, "no permission"],
    [3, 8, "not closed"],
    [4, 5, "must follow"],
    [5, 9, "one pattern"],
    [6, 6, "no quotes"],
  ]);
  expectProblems("read **\nextends agent-safe\n", [[2, 1, "before all rules"]]);
  expectProblems("extends nobody\nread /x\n", [[1, 9, "no preset"]]);
  expectProblems("extends agent-safe@9\n", [[1, 9, "version"]]);
  expectProblems("rules:\n  - pattern: /a[b\n    permission: read\n", [[2, 16, "not closed"]]);
  expectProblems('rules:\n  - pattern: "/a[b"\n    permission: read\n', [[2, 17, "not closed"]]);
  expectProblems("rules:\n  - pattern: *.key\n    permission: none\n", [[2, 14, "quoted"]]);
  expectProblems("- { pattern: /a, permission: hide }\n- { pattern: /a }\n- /a\n", [
    [1, 30, "no permission"],
    [2, 3, "missing"],
    [3, 3, "a rule is"],
  ]);
  expectProblems("- { pattern: /a, permission: read, subtre: false }\n", [[1, 36, "no word"]]);
  expectProblems("- { pattern: /a, permission: read, subtree: yes }\n", [[1, 45, "true or false"]]);
  expectProblems("- { pattern: 7, permission: read, priority: high }\n", [
    [1, 14, "a text"],
    [1, 45, "whole number"],
  ]);
  expectProblems("live: true\n", [[1, 1, "missing"]]);
  expectProblems("rulez: []\n", [[1, 1, "no word"]]);
  expectProblems("rules:\n  - { pattern: /a, permission: read, permission: none }\n", [[2, 38, "unique"]]);
  expectProblems('{"rules": [\n  {"pattern": "/a", "permission": "read"},\n]}', [[3, 1, "not JSON"]], { format: "json" });
  const notJson: readonly (readonly [string, number])[] = [
    ...([
      ["[1,]", 4],
      ["{'a':1}", 2],
      ['{"a" 1}', 6],
      ['{"a":}', 6],
      ["[1 2]", 4],
      ["[]]", 3],
      ["[", 2],
      ['["a', 2],
      ["", 1],
      ["[01]", 3],
      ['["\t"]', 2],
    ] as const),
    ...([
      ['{"a":1,}', 8],
      ["[,1]", 2],
      ["nul", 1],
      ["[1}", 3],
      ['{"a":1 "b"}', 8],
      ["[1] // x", 5],
      ["{1:2}", 2],
      ["[-]", 2],
      ["[1],", 4],
    ] as const),
  ];
  for (const [text, column] of notJson) expectProblems(text, [[1, column, "not JSON"]], { format: "json" });
  expectProblems("", [[1, 1, "empty"]], { format: "yaml" });
  expectProblems("just words", [[1, 1, "a list"]], { format: "yaml" });
  expectProblems("[".repeat(50_000), [[1, 1, "too deep"]], { format: "yaml" });
  expectProblems(`read /${"a".repeat(5 * 1024 * 1024)}`, [[1, 1, "longer"]]);
  expectProblems(`# ${"a".repeat(1024 * 1024)}\nrules: []`, [[1, 1, "one rule a line"]], { format: "yaml" });
});

verifies("policy/mount-point-refused", "a pattern under /workspace is an error, unless the codebase has such an entry", () => {
  for (const text of ["/workspace", "/workspace/", "/workspace/secrets/**", "/work\\space/x"])
    expectProblems(`none ${text}`, [[1, 6, "mounted"]]);
  expectProblems('{"rules":[{"pattern":"/workspace/**","permission":"none"}]}', [[1, 23, "mounted"]], { format: "json" });
  deepEqual(read("none /workspace/x", { hasWorkspaceEntry: true }).rules.length, 1);
  deepEqual(read("none /workspaces\nnone /a/workspace\nnone workspace/x").rules.length, 3);
});

it("a large policy file of lines is read", () => {
  const text = Array.from({ length: 100_000 }, (_, i) => `read /a${i}/**/*.x`).join("\n");
  equal(read(text).rules.length, 100_000);
  const { problems } = parsePolicy(`${text}\nread /one/more`);
  equal(problems[0]?.message.includes("100000"), true);
});
