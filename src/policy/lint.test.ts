// Warnings of valid policies, by place, and that errors come along.

import { deepEqual, equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { lintText } from "./lint.ts";

/** `severity line` of each finding. */
function found(text: string, options: Parameters<typeof lintText>[1] = {}): readonly string[] {
  return lintText(text, options).map(({ severity, line }) => `${severity} ${line}`);
}

verifies("policy/lint-shadowed", "a rule that a higher one outranks on every path is a warning at its line", () => {
  deepEqual(found("read **\nwrite /a/b\nnone /a\n"), ["warning 2"]);
  deepEqual(found("none /a\nread **\n"), ["warning 1"]);
  deepEqual(found("read **\nnone *.key\nread /a/x.key\n"), []);
  deepEqual(found("read **\nnone /a/*\nnone /a/x\n"), []);
  deepEqual(
    found(
      '- { pattern: "/a", permission: none, priority: 2 }\n- { pattern: "**", permission: read }\n- { pattern: /a/b, permission: write }\n',
    ),
    ["warning 3"],
  );
  ok(lintText("write /a/b\nread /a\n")[0]?.message.includes("line 2"));
});

it("a preset's own rules are not the author's fault", () => {
  deepEqual(found("extends agent-safe\nnone .env*\nread **\n"), ["warning 2"]);
});

it("errors are told instead of warnings", () => {
  deepEqual(found("none /a\nread **\nfoo\n"), ["error 3"]);
});

verifies("policy/git-keeps", "paths that git still holds are a warning while its object store is readable", () => {
  const inGit = ["/secrets/key", "/src/a.ts", "/secrets/b\n\xff"];
  const [problem] = lintText("read **\nnone /secrets\n", { inGit });
  equal(problem?.line, 2);
  ok(problem?.message.includes("/secrets/key, /secrets/b\\n\\xff"), problem?.message);
  deepEqual(found("read **\nnone /secrets\nnone .git/\n", { inGit }), []);
  deepEqual(found("read **\nnone /other\n", { inGit }), []);
  deepEqual(found("extends development\n", { inGit }), ["warning 1"]);
});

verifies("policy/lint-bounded", "rules that cost much to compare are compared for a bounded time, and that it stopped is a warning", () => {
  const costly = Array.from({ length: 160 }, (_, n) => `read /${"**/a*b*c*d*/".repeat(40)}x${n}\n`).join("");
  const [stopped, ...more] = lintText(costly);
  ok(stopped?.message.includes("the policy is large"));
  deepEqual(more, []);
});

it("rare spellings and a policy that opens nothing", () => {
  deepEqual(found("read **\nnone workspace/x\n"), ["warning 2"]);
  deepEqual(found("read **\nnone workspace/x\n", { hasWorkspaceEntry: true }), []);
  deepEqual(found("read **\nnone a\\b\n"), ["warning 2"]);
  deepEqual(found("none /a\n"), ["warning 1"]);
  deepEqual(found(""), ["warning 1"]);
});
