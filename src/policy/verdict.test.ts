// What rules mean, sentence by sentence of docs/policy.md, by examples a person can check by eye. Each example is asked of the
// definition and of the compiled form.

import { deepEqual, equal, throws } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import type { EntryKind, Permission, Policy, Rule, Verdict } from "../api/policy.ts";
import { toBytes } from "./bytes.ts";
import { compilePolicy } from "./compile.ts";
import { verdict } from "./verdict.ts";

/** `read /a` → a rule. */
function rules(...lines: string[]): Policy {
  return {
    rules: lines.map((line): Rule => {
      const [permission = "", ...rest] = line.split(" ");
      return { permission: permission as Permission, pattern: rest.join(" ") };
    }),
  };
}

function judged(policy: Policy, path: string, kind?: EntryKind): Verdict {
  const bytes = toBytes(path);
  const stands = kind ?? (path.endsWith("/") ? "dir" : "file");
  const answer = verdict(policy, bytes, stands);
  deepEqual(compilePolicy(policy).verdict(bytes, stands), answer);
  return answer;
}

/** Checks `pattern` against paths; a path that ends in `/` is a directory. */
function expectMatches(pattern: string, matching: readonly string[], other: readonly string[]): void {
  const policy = rules(`write ${pattern}`);
  for (const path of matching) equal(judged(policy, path).permission, "write", `${pattern} should match ${path}`);
  for (const path of other) equal(judged(policy, path).permission === "write", false, `${pattern} should not match ${path}`);
}

it("wildcards stay within a name, `**` stands for whole names", () => {
  expectMatches("/a/*.md", ["/a/x.md", "/a/.md", "/a/x.md/deep"], ["/a/b/x.md", "/x.md", "/a/xmd"]);
  expectMatches("/a/?", ["/a/b", "/a/é"], ["/a/", "/a/bc"]);
  expectMatches("/a/**/b", ["/a/b", "/a/x/b", "/a/x/y/b"], ["/a/xb", "/b", "/a/"]);
  expectMatches("/a/**", ["/a/", "/a", "/a/x", "/a/x/y"], ["/ab", "/"]);
  expectMatches("**", ["/", "/a", "/a/b/c"], []);
  expectMatches("/", ["/", "/a/b"], []);
});

it("sets, choices and escapes", () => {
  expectMatches("/[abc]", ["/a", "/c"], ["/d", "/ab"]);
  expectMatches("/[a-c]x", ["/bx"], ["/dx", "/-x"]);
  expectMatches("/[a-]", ["/a", "/-"], ["/b"]);
  expectMatches("/[!a]", ["/b", "/é"], ["/a", "/bb"]);
  expectMatches("/[à-ü]", ["/é"], ["/e"]);
  expectMatches("/{a,b{c,d}}.{x,y}", ["/a.x", "/bc.y", "/bd.x"], ["/b.x", "/a.z", "/bcd.x"]);
  expectMatches("/a{,b}", ["/a", "/ab"], ["/abb"]);
  expectMatches("/\\*\\?\\[\\{", ["/*?[{"], ["/aaaa"]);
  expectMatches("/{*.md,README}", ["/x.md", "/README"], ["/x"]);
  expectMatches("/{x,*}*y", ["/y", "/xy", "/zzy"], ["/x"]);
});

it("choices that begin alike do not lose each other", () => {
  const policy = rules("read /{a,b}c", "view /{a,x}d", "write /{a,ab}{c,d}e", "write /ax");
  for (const [path, permission] of [
    ["/ac", "read"],
    ["/bc", "read"],
    ["/ad", "view"],
    ["/xd", "view"],
    ["/ace", "write"],
    ["/abde", "write"],
    ["/ax", "write"],
    ["/xc", "none"],
  ] as const) {
    equal(judged(policy, path).permission, permission, path);
  }
});

it("a pattern without a leading slash matches at any depth, one with a trailing slash only directories", () => {
  expectMatches("*.key", ["/x.key", "/a/b/x.key"], ["/x.keys"]);
  expectMatches("a/b", ["/a/b", "/x/a/b"], ["/a/x/b"]);
  expectMatches("secrets/", ["/secrets/", "/a/secrets/", "/secrets/x"], ["/secrets", "/a/secrets"]);
  expectMatches("/a/**/", ["/a/", "/a/b/", "/a/b"], ["/a"]);
});

verifies("policy/covers-below", "a rule that matches a directory covers all below it, unless it judges its own paths only", () => {
  equal(judged(rules("read **", "none /secrets"), "/secrets/a/b").permission, "none");
  equal(judged(rules("read **", "none **/secrets/**"), "/secrets").permission, "none");
  equal(judged(rules("read **", "none **/secrets/**"), "/a/secrets/b").permission, "none");
  const narrow: Policy = {
    rules: [
      { pattern: "**", permission: "read" },
      { pattern: "/a", permission: "none", subtree: false },
    ],
  };
  equal(judged(narrow, "/a", "file").permission, "none");
  equal(judged(narrow, "/a/b").permission, "read");
  equal(judged({ rules: [{ pattern: "/a/**", permission: "read", subtree: false }] }, "/a/b/c").permission, "read");
});

verifies("policy/last-match-wins", "the last matching rule wins, a higher priority before it", () => {
  deepEqual(judged(rules("read **", "write /a", "none /a"), "/a"), { permission: "none", ruleIndex: 2 });
  deepEqual(judged(rules("none /a/very/exact/path", "read **"), "/a/very/exact/path"), { permission: "read", ruleIndex: 1 });
  deepEqual(judged(rules("read /a", "read /a"), "/a"), { permission: "read", ruleIndex: 1 });
  const ranked: Policy = {
    rules: [
      { pattern: "/a", permission: "none", priority: 1 },
      { pattern: "**", permission: "write" },
      { pattern: "/b", permission: "read", priority: -1 },
    ],
  };
  equal(judged(ranked, "/a").permission, "none");
  equal(judged(ranked, "/b").permission, "write");
  const many: Policy = { rules: Array.from({ length: 50 }, (_, i) => ({ pattern: "/a", permission: i % 2 === 0 ? "none" : "write" })) };
  deepEqual(judged(many, "/a"), { permission: "write", ruleIndex: 49 });
  deepEqual(judged({ rules: many.rules.slice(0, 13) }, "/a"), { permission: "none", ruleIndex: 12 });
});

verifies("policy/empty-hides-all", "no match means none: an empty policy shows an empty directory", () => {
  for (const path of ["/", "/a", "/a/b/"]) deepEqual(judged({ rules: [] }, path), { permission: "none" });
  deepEqual(judged(rules("read /a"), "/b"), { permission: "none" });
});

verifies("policy/opened-can-be-reached", "the directories on the way to what is open are passages, others are not", () => {
  const policy = rules("read **", "none /secrets", "read /secrets/public/x.txt");
  deepEqual(judged(policy, "/secrets/"), { permission: "view", passage: true });
  deepEqual(judged(policy, "/secrets/public/"), { permission: "view", passage: true });
  deepEqual(judged(policy, "/secrets/private/"), { permission: "none", ruleIndex: 1 });
  deepEqual(judged(policy, "/secrets/public", "file"), { permission: "none", ruleIndex: 1 });
  equal(judged(policy, "/secrets/public/x.txt").permission, "read");
  // A wildcard could open something below any directory; what is really there decides when the caller can tell.
  const wild = rules("read **/x.md");
  deepEqual(judged(wild, "/a/b/"), { permission: "view", passage: true });
  deepEqual(
    verdict(wild, "/a/b", "dir", (path) => path !== "/a/b"),
    { permission: "none" },
  );
  deepEqual(
    compilePolicy(wild).verdict("/a/b/", "dir", (path) => path !== "/a/b"),
    { permission: "none" },
  );
  // A rule that a higher one outranks below the directory leads nowhere.
  deepEqual(judged(rules("read /a/b", "none /a"), "/a/"), { permission: "none", ruleIndex: 1 });
});

verifies("policy/names-are-bytes", "names are compared byte for byte: no case, no Unicode form, no encoding is folded", () => {
  expectMatches("/é", ["/é"], ["/e\u0301", "/É"]);
  expectMatches("/K", ["/K"], ["/k", "/\u212a"]);
  const policy = rules("write /?");
  const permissionOf = (bytes: string): Permission => judgedBytes(policy, bytes);
  equal(permissionOf("/\xc3\xa9"), "write"); //  one character of two bytes
  equal(permissionOf("/\xff"), "write"); //      one byte that is no character
  equal(permissionOf("/\xc3\x28"), "none"); //   a broken sequence: two
  equal(permissionOf("/\xed\xa0\x80"), "none"); // a surrogate is no character: three bytes
  equal(permissionOf("/\xc0\x80"), "none"); //   nor is an overlong form
  for (const broken of ["/\xe0\x80\x80", "/\xf0\x80\x80\x80", "/\xf4\x90\x80\x80", "/\xc3\xff", "/\xe2\x82"])
    equal(permissionOf(broken), "none", broken);
  equal(permissionOf("/\xf4\x8f\xbf\xbf"), "write"); // the last code point
  equal(judgedBytes(rules("write /é"), "/\xe9"), "none");
  equal(judgedBytes(rules("write /[!a]"), "/\xff"), "write");
  equal(judgedBytes(rules("write /*\n*"), "/\xff\n\xfe"), "write");
});

function judgedBytes(policy: Policy, bytes: string): Permission {
  const answer = verdict(policy, bytes, "file");
  deepEqual(compilePolicy(policy).verdict(bytes, "file"), answer);
  return answer.permission;
}

verifies("policy/plain-spelling", "every spelling of a path gets the verdict of its plain one", () => {
  const policy = rules("read **", "none /secrets", "none .env");
  for (const path of [
    "/secrets/k",
    "//secrets//k",
    "/./secrets/./k",
    "secrets/k",
    "/a/../secrets/k",
    "/../secrets/k",
    "/secrets/k/",
    "/secrets/x/../k",
  ]) {
    equal(judged(policy, path, "file").permission, "none", path);
  }
  equal(judged(policy, "/a/.env", "file").permission, "none");
  equal(judged(policy, "/.envx", "file").permission, "read");
  equal(judged(policy, "/...", "file").permission, "read");
  equal(judged(rules("read **", "none x/"), "/x/", "file").permission, "read");
});

it("a policy with anything wrong in it is refused as a whole", () => {
  const wrong: readonly Policy[] = [
    rules("read **", "none /a[b"),
    rules("read **", "hide /a"),
    { rules: [{ pattern: "/a", permission: "read", priority: 0.5 }] },
    { rules: [{ pattern: "/a", permission: "read", priority: Number.NaN }] },
    { rules: Array.from({ length: 100_001 }, () => ({ pattern: "/a", permission: "read" })) },
    { rules: Array.from({ length: 1_100 }, (_, i) => ({ pattern: `/${i}${"a".repeat(4_000)}`, permission: "read" })) },
  ];
  for (const policy of wrong) {
    const isInvalid = (error: unknown): boolean => errorCode(error) === "policy_invalid";
    throws(() => verdict(policy, "/", "dir"), isInvalid);
    throws(() => compilePolicy(policy), isInvalid);
  }
});
