import fc from "fast-check";
import { describe, expect } from "vitest";
import { runs } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import type { EntryKind, Permission, Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { Planner, type Attributes, type FileAttributes, type PlanSink } from "./plan.ts";
import { PlanBytes } from "./plan-bytes.ts";
import { PlanTree } from "./plan-kept.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

/** A made-up tree: names to files, links, specials or directories. */
interface Dir {
  readonly kind: "dir";
  readonly children: ReadonlyMap<string, Tree>;
}
type Tree = Dir | { readonly kind: Exclude<EntryKind, "dir">; readonly time: number; readonly mode: number };

const NAMES = ["a", "b", "c", "x.key", "y.md", ".env", "\xff\n"];
const name = fc.constantFrom(...NAMES);
const leaf: fc.Arbitrary<Tree> = fc.record({
  kind: fc.constantFrom("file" as const, "file" as const, "link" as const, "other" as const),
  time: fc.integer({ min: -5, max: 5_000_000_000 }),
  mode: fc.constantFrom(0o644, 0o755, 0o600, 0o4755),
});
const dir: fc.Arbitrary<Dir> = fc.letrec<{ dir: Dir; tree: Tree }>((tie) => ({
  tree: fc.oneof({ depthSize: "medium" }, leaf, leaf, tie("dir")),
  dir: fc.array(fc.tuple(name, tie("tree")), { maxLength: 5 }).map((children) => ({ kind: "dir" as const, children: new Map(children) })),
})).dir;

const segment = fc.constantFrom("a", "b", "c", "*", "**", "*.key", "*.md", ".env*", "a/b");
const pattern = fc
  .tuple(fc.boolean(), fc.array(segment, { minLength: 1, maxLength: 3 }), fc.boolean())
  .map(([rooted, segments, isDir]) => `${rooted ? "/" : ""}${segments.join("/")}${isDir ? "/" : ""}`);
const policy: fc.Arbitrary<Policy> = fc
  .array(fc.record({ pattern, permission: fc.constantFrom<Permission>("none", "none", "view", "read", "write"), subtree: fc.boolean() }), {
    maxLength: 6,
  })
  .map((rules) => ({ rules: [{ pattern: "**", permission: "read" as const }, ...rules] }));

const NO_ATTRIBUTES = {
  errno: 0,
  uid: 0,
  gid: 0,
  nlink: 1,
  ino: 1,
  mtimeNs: 0,
  ctimeSeconds: 0,
  ctimeNs: 0,
  rdevMajor: 0,
  rdevMinor: 0,
  mountPoint: false,
};

function entryOf(of: string, tree: Tree): WalkEntry {
  if (tree.kind === "dir") return { ...NO_ATTRIBUTES, name: of, kind: "dir", mode: 0o40755, size: 0, mtimeSeconds: 0, target: "" };
  return {
    ...NO_ATTRIBUTES,
    name: of,
    kind: tree.kind,
    mode: tree.mode,
    size: of.length,
    mtimeSeconds: tree.time,
    target: tree.kind === "link" ? "to" : "",
  };
}

/** The events of a walk over a made-up tree. */
function walkOf(tree: Dir, path = "", of = "", index = 0): WalkEvent[] {
  const names = [...tree.children.keys()].sort();
  const entries = names.map((child) => entryOf(child, tree.children.get(child) as Tree));
  const below = names.flatMap((child, at) => {
    const found = tree.children.get(child) as Tree;
    return found.kind === "dir" ? walkOf(found, `${path}/${child}`, child, at) : [];
  });
  return [{ event: "dir", path, entry: entryOf(of, tree), index, errno: 0, entries }, ...below, { event: "leave", path }];
}

interface Shown {
  readonly own: boolean;
  readonly mode: number;
  readonly content: boolean;
}

/** Collects what stands in the mask, by path. */
class Collect implements PlanSink {
  readonly shown = new Map<string, Shown>();
  readonly #path: string[] = [];

  #at(child: string): string {
    return [...this.#path, child].join("/") || "/";
  }
  enter(child: string): void {
    this.#path.push(child);
  }
  file(child: string, attributes: FileAttributes): void {
    this.shown.set(this.#at(child), attributes);
  }
  link(child: string, attributes: Attributes): void {
    this.shown.set(this.#at(child), { ...attributes, content: true });
  }
  leave(attributes: Attributes): void {
    this.shown.set(this.#path.join("/") || "/", { ...attributes, content: true });
    this.#path.pop();
  }
}

function plan<S extends PlanSink>(tree: Dir, of: Policy, sink: S): S {
  new Planner(compilePolicy(of), sink).take(walkOf(tree));
  return sink;
}

/** Every path of the tree with its kind. */
function* paths(tree: Dir, path = ""): Generator<readonly [string, EntryKind]> {
  for (const [child, found] of tree.children) {
    yield [`${path}/${child}`, found.kind];
    if (found.kind === "dir") yield* paths(found, `${path}/${child}`);
  }
}

/** The level of each path, by the slow reading: `none` unless a rule or something visible below says otherwise. */
function levels(tree: Dir, of: Policy): Map<string, Permission> {
  const compiled = compilePolicy(of);
  const found = new Map<string, Permission>();
  for (const [path, kind] of paths(tree)) {
    const { permission, passage } = compiled.verdict(path, kind, () => false);
    found.set(path, passage === true ? "none" : permission);
  }
  for (const [path, level] of found) {
    if (level === "none") continue;
    for (let up = path.slice(0, path.lastIndexOf("/")); up !== ""; up = up.slice(0, up.lastIndexOf("/")))
      if (found.get(up) === "none") found.set(up, "view");
  }
  return found;
}

/** The tree without what is hidden. */
function prune(tree: Dir, visible: Map<string, Permission>, path = ""): Dir {
  const children = new Map<string, Tree>();
  for (const [child, found] of tree.children) {
    const at = `${path}/${child}`;
    if (visible.get(at) === "none") continue;
    children.set(child, found.kind === "dir" ? prune(found, visible, at) : found);
  }
  return { kind: "dir", children };
}

describe("the plan of a mask", () => {
  verifies("view/mask-is-verdict", "holds what the policy makes visible and nothing else, each with the rights of its level", () => {
    fc.assert(
      fc.property(dir, policy, (tree, of) => {
        const { shown } = plan(tree, of, new Collect());
        const found = levels(tree, of);
        expect(new Set([...shown.keys()].filter((path) => path !== "/"))).toEqual(
          new Set([...found].filter(([, level]) => level !== "none").map(([path]) => path)),
        );
        const kinds = new Map(paths(tree));
        for (const [path, { own, mode, content }] of shown) {
          const level = found.get(path);
          const kind = kinds.get(path);
          if (level === undefined || kind === "dir") continue;
          expect([path, own]).toEqual([path, level === "write"]);
          if (kind === "other") expect([mode, content]).toEqual([0, false]);
          if (kind === "file") expect([path, content, (mode & 0o444) !== 0]).toEqual([path, level !== "view", level !== "view"]);
          if (level !== "write" && kind === "file") expect(mode & 0o222).toBe(0);
        }
      }),
      runs(3000),
    );
  });

  verifies("view/mask-directories", "lets a directory be changed where it is `write`, and keeps in it what is not", () => {
    fc.assert(
      fc.property(dir, policy, (tree, of) => {
        const { shown } = plan(tree, of, new Collect());
        const found = levels(tree, of);
        for (const [path, kind] of paths(tree)) {
          const dirShown = shown.get(path);
          if (kind !== "dir" || dirShown === undefined) continue;
          const lower = [...found].some(([below, level]) => below.startsWith(`${path}/`) && level !== "none" && level !== "write");
          const expected = found.get(path) !== "write" ? [false, 0o755] : lower ? [false, 0o1777] : [true, 0o755];
          expect([path, dirShown.own, dirShown.mode]).toEqual([path, ...expected]);
        }
      }),
      runs(3000),
    );
  });

  verifies("view/mask-twin", "is the same, byte for byte, for a codebase that never had what is hidden", () => {
    const bytes = (tree: Dir, of: Policy): string => {
      const sink = plan(tree, of, new PlanBytes());
      sink.end();
      return Buffer.concat(sink.take(true)).toString("hex");
    };
    fc.assert(
      fc.property(dir, policy, (tree, of) => {
        // Verdicts of the pruned tree are those of the whole: a passage whose open entries are gone was not visible to begin with.
        expect(bytes(prune(tree, levels(tree, of)), of)).toBe(bytes(tree, of));
      }),
      runs(1000),
    );
  });

  verifies("view/mask-mended-whole", "that is mended from an older one names each directory of the new one once", () => {
    fc.assert(
      fc.property(dir, dir, policy, (before, after, of) => {
        const old = plan(before, of, new PlanTree()).kept();
        const fresh = plan(after, of, new PlanTree());
        expect(apply([...fresh.write(old)], [...plan(before, of, new PlanTree()).write(undefined)])).toEqual(
          apply([...fresh.write(undefined)], []),
        );
      }),
      runs(1000),
    );
  });
});

interface Made {
  readonly attributes: string;
  readonly entries: ReadonlyMap<string, string | Made>;
}

/** Reads a plan as the tool does, over the tree that an older plan made. */
function apply(plans: readonly Buffer[], older: readonly Buffer[]): Made | undefined {
  const old = older.length === 0 ? undefined : apply(older, []);
  const bytes = Buffer.concat(plans);
  interface Open {
    readonly name: string;
    readonly old: Made | undefined;
    readonly entries: Map<string, string | Made>;
  }
  const stack: Open[] = [];
  let root: Made | undefined;
  for (let at = 0; at < bytes.length; ) {
    const type = bytes[at] as number;
    const parent = stack.at(-1);
    const nameAt = at + (type === 1 ? 28 : type === 2 ? 20 : 4);
    const nameEnd = nameAt + bytes.readUInt16LE(at + 2);
    const of = bytes.toString("latin1", nameAt, nameEnd);
    if (type === 6) break;
    if (type === 4) {
      const { name: done, entries } = stack.pop() as Open;
      const made = { attributes: bytes.toString("hex", at, at + 16), entries };
      const above = stack.at(-1);
      if (above === undefined) root = made;
      else above.entries.set(done, made);
      at += 16;
      continue;
    }
    if (type === 1) parent?.entries.set(of, bytes.toString("hex", at, nameEnd));
    if (type === 2) {
      const end = nameEnd + bytes.readUInt16LE(at + 4);
      parent?.entries.set(of, bytes.toString("hex", at, end));
      at = end;
      continue;
    }
    const found = of === "" ? old : parent?.old?.entries.get(of);
    const before = typeof found === "string" ? undefined : found; // a file became a directory
    if (type === 3) {
      const state = bytes[at + 1];
      if (state !== 0 && before === undefined) throw new Error(`${of} is not in the old mask`);
      stack.push({ name: of, old: before, entries: new Map(state === 2 ? before?.entries : []) });
    }
    if (type === 5) {
      if (before === undefined) throw new Error(`${of} is not in the old mask`);
      parent?.entries.set(of, before);
    }
    at = nameEnd;
  }
  return root;
}
