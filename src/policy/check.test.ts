// What `corral policy check` finds in a tree: levels with passages, what is hidden, and other ways to a hidden thing.

import { deepEqual, equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { Policy } from "../api/policy.ts";
import { checkLines } from "./check-text.ts";
import { checkTree, type CheckReport, type TreeEntry } from "./check.ts";
import { parsePolicy } from "./parse.ts";

function lines(...text: string[]): Policy {
  const { policy, problems } = parsePolicy(text.join("\n"), { format: "lines" });
  if (policy === undefined) throw new Error(JSON.stringify(problems));
  return policy;
}

/** `a/` a directory, `a -> b` a link, `a #1` a file of inode 1, else a file. */
function tree(...specs: string[]): readonly TreeEntry[] {
  return specs.map((spec): TreeEntry => {
    const [path = "", target] = spec.split(" -> ");
    if (target !== undefined) return { path, kind: "link", target };
    const [name = "", inode] = path.split(" #");
    if (inode !== undefined) return { path: name, kind: "file", inode };
    return path.endsWith("/") ? { path: path.slice(0, -1), kind: "dir" } : { path, kind: "file" };
  });
}

function aliases(report: CheckReport): readonly string[] {
  return report.aliases.map(({ path, hidden, by, content }) => `${path} ${by} ${hidden}${content ? " content" : ""}`);
}

verifies("policy/check-levels", "check tells each entry's level, passages by what is really there, and what is hidden", async () => {
  const policy = lines("read **", "none /secrets", "none /private", "read /secrets/**/x.md", "write /never");
  const report = await checkTree(
    policy,
    tree(
      "/src/",
      "/src/a.ts",
      "/secrets/",
      "/secrets/key",
      "/secrets/deep/",
      "/secrets/deep/x.md",
      "/secrets/empty/",
      "/private/",
      "/private/y",
    ),
  );
  deepEqual(
    report.hidden.map(({ path }) => path),
    ["/secrets/key", "/secrets/empty", "/private"],
  );
  deepEqual(report.counts, { none: 4, view: 2, read: 4, write: 0 });
  deepEqual(report.idle, [4]);
  const text = [...checkLines(report)].join("\n");
  ok(text.includes("view    secrets/ (passage)"), text);
  ok(text.includes("none    private/ and 1 below"), text);
  ok(text.includes("/private  (rule 3: none /private)"), text);
});

verifies("policy/check-aliases", "check names visible links and second names that give a hidden path away", async () => {
  const policy = lines("read **", "none /secrets", "view /shown");
  const report = await checkTree(
    policy,
    tree(
      ...[
        "/secrets/",
        "/secrets/key #1",
        "/secrets/l -> key",
        "/src/",
        "/src/a -> ../secrets/key",
        "/src/b -> /workspace/secrets/key",
        "/src/c -> dir/key",
        "/src/dir -> ../secrets",
      ],
      ...[
        "/src/d -> ../secrets/missing",
        "/src/e -> /etc/secrets/key",
        "/src/f -> f",
        "/src/g -> x/../../secrets",
        "/src/ok -> a",
        "/copy #1",
        "/shown #1",
        "/other #2",
        "/other2 #2",
      ],
    ),
  );
  deepEqual(aliases(report), [
    ...[
      "/src/a link /secrets/key",
      "/src/b link /secrets/key",
      "/src/c link /secrets/key",
      "/src/dir link /secrets",
      "/src/d link /secrets",
      "/src/ok link /secrets/key",
    ],
    ...["/copy inode /secrets/key content", "/shown inode /secrets/key"],
  ]);
});

it("rules of a preset that decide nothing are not told", async () => {
  deepEqual((await checkTree(lines("extends agent-safe", "none *.key", "write /gone"), tree("/a"))).idle, [27, 28]);
});

it("warns of a readable git store only when something is hidden", async () => {
  const git = tree("/.git/", "/.git/objects/", "/a.key");
  equal((await checkTree(lines("read **", "none *.key"), git)).gitReadable, true);
  equal((await checkTree(lines("read **", "none *.key", "none .git/"), git)).gitReadable, false);
  equal((await checkTree(lines("read **"), git)).gitReadable, false);
});

it("hostile names are printed inert, a deep tree does not end the stack", async () => {
  const [line = ""] = [...checkLines(await checkTree(lines("read **", "none /a"), tree("/\x1b[2J\n", "/a")))].filter((text) =>
    text.includes("2J"),
  );
  equal(line, "read    \\x1b[2J\\n");
  const deep = Array.from({ length: 2_000 }, (_, depth): TreeEntry => ({ path: "/d".repeat(depth + 1), kind: "dir" }));
  equal((await checkTree(lines("read **"), deep)).counts.read, 2_001);
  const mixed = await checkTree(lines("read **", "none /x"), [...deep, ...tree("/x")]);
  ok([...checkLines(mixed)].length > 3);
});
