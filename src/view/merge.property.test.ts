// Layers that no kernel wrote: any tree with any marks, over any base and policy, straight into the merge. No disk.

import fc from "fast-check";
import { expect, it } from "vitest";
import { fuzzed } from "../../test/fuzz/budget.ts";
import { errorCode } from "../api/errors.ts";
import type { EntryKind, Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { readBase } from "./base-tree.ts";
import { merge, wantedBase, type Merge } from "./merge.ts";
import type { UpperDir, UpperItem } from "./upper.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

type Tree = Readonly<Record<string, unknown>>;
const NAMES = ["a", "b", "c", "hid", "ro"];
const POLICY: Policy = {
  rules: [
    { pattern: "**", permission: "write" },
    { pattern: "ro", permission: "read" },
    { pattern: "hid", permission: "none" },
    { pattern: "/a/hid/a", permission: "write" },
  ],
  dirs: ["/c"],
};

function entry(name: string, kind: EntryKind, ino: number): WalkEntry {
  const times = { mtimeSeconds: 1, mtimeNs: 0, ctimeSeconds: 1, ctimeNs: 0 };
  const mode = kind === "dir" ? 0o40755 : 0o100644;
  return {
    name,
    kind,
    errno: 0,
    mode,
    uid: 0,
    gid: 0,
    nlink: 1,
    size: 3,
    ino,
    ...times,
    rdevMajor: 0,
    rdevMinor: 0,
    mountPoint: false,
    target: "",
  };
}

/** A tree of names: an object is a directory, `null` a file, a string a link. */
const { tree } = fc.letrec<{ tree: Tree; node: unknown }>((tie) => ({
  tree: fc.dictionary(fc.constantFrom(...NAMES), tie("node"), { maxKeys: 4 }) as fc.Arbitrary<Tree>,
  node: fc.oneof({ maxDepth: 3 }, fc.constant(null), fc.constant("link"), tie("tree")),
}));

function* events(content: Tree, path = "", self = entry("", "dir", 1)): Generator<WalkEvent> {
  const kindOf = (value: unknown): EntryKind => (value === null ? "file" : typeof value === "string" ? "link" : "dir");
  const names = Object.keys(content).sort();
  const entries = names.map((name, index) => entry(name, kindOf(content[name]), path.length * 100 + index + 2));
  yield { event: "dir", path, entry: self, index: 0, errno: 0, entries };
  for (const [index, name] of names.entries()) {
    const child = content[name];
    if (kindOf(child) === "dir") yield* events(child as Tree, `${path}/${name}`, entries[index]);
  }
  yield { event: "leave", path };
}

const redirect = fc.option(fc.constantFrom("/a", "/b", "/a/b", "/a/hid", "/hid", "/c", "/nothing", "a", "b", "hid"), { freq: 2 });
const mark = fc.record({ opaque: fc.boolean(), redirect, metacopy: fc.boolean(), whiteout: fc.boolean() });

interface Marks {
  readonly opaque: boolean;
  readonly redirect: string | null;
  readonly metacopy: boolean;
  readonly whiteout: boolean;
}

/** The names of one tree with marks from an endless list. */
function upperOf(content: Tree, marks: () => Marks, path = ""): UpperDir {
  const own = path === "" ? undefined : marks();
  const items = Object.entries(content).map(([name, value]): UpperItem => {
    const at = `${path}/${name}`;
    if (value !== null && typeof value !== "string") return { is: "dir", name, dir: upperOf(value as Tree, marks, at) };
    const found = marks();
    if (found.whiteout) return { is: "whiteout", name };
    const metacopy = value === null && found.metacopy;
    const leads = metacopy && found.redirect !== null ? { redirect: found.redirect } : {};
    return { is: "leaf", name, entry: entry(name, value === null ? "file" : "link", 7), metacopy, ...leads, capability: false };
  });
  const leads = own?.redirect === undefined || own.redirect === null ? {} : { redirect: own.redirect };
  return { entry: entry("", "dir", 9), path, opaque: own?.opaque === true, ...leads, items };
}

function check({ found }: Merge): void {
  const policy = compilePolicy(POLICY);
  const paths = found.map(({ path }) => path);
  expect(new Set(paths).size).toBe(paths.length);
  expect(paths.toSorted()).toEqual(paths);
  for (const { before, after } of found) {
    expect(before ?? after).toBeDefined();
    // What a mark leads to was shown to the sandbox.
    if (after?.source?.root !== "base") continue;
    expect(policy.verdict(after.source.path, "file").permission).not.toBe("none");
    expect(after.moved).toBeDefined();
  }
}

it("whatever the marks say, each path is told once, and none leads to what the policy hides", async () => {
  let refused = 0;
  let read = 0;
  await fuzzed(
    fc.asyncProperty(tree, tree, fc.infiniteStream(mark), async (lower, upper, marks) => {
      const stream = marks[Symbol.iterator]();
      const layer = upperOf(upper, () => stream.next().value as Marks);
      const base = await readBase(
        (async function* () {
          yield [...events(lower)];
        })(),
        wantedBase(layer),
      );
      try {
        check(merge({ upper: layer, base, policy: compilePolicy(POLICY) }));
        read += 1;
      } catch (error) {
        if (errorCode(error) !== "delta_malformed") throw error;
        refused += 1;
      }
    }),
    4_000,
  );
  expect(Math.min(refused, read)).toBeGreaterThan(200);
});
