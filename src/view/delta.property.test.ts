// Random operations in a real view against the same operations in a plain directory: the merged view must be the directory, the list
// of changes must be the difference, and a commit must make the codebase that directory - hidden entries aside, which must not move.

import { execFileSync, spawnSync } from "node:child_process";
import { chownSync, cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, describe, expect, type TestContext } from "vitest";
import type { Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { snapshot } from "../../test/fixtures/delta-lab.ts";
import { openLab, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { fuzzed } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { readChanges, type DeltaInput } from "./changes.ts";
import { readManifest } from "./codebase.ts";
import { commitDelta } from "./commit.ts";
import { liveTarget } from "./commit-live.ts";
import { shownMode } from "./plan.ts";

const SCRIPT = fileURLToPath(new URL("../../test/fixtures/delta-ops.py", import.meta.url));
const ID = "sbproperty000000000000";
const labs = new Map<LabMode, ViewLab>();
afterAll(() => {
  for (const lab of labs.values()) lab[Symbol.dispose]();
});

function labFor(context: TestContext, mode: LabMode): ViewLab {
  if (process.getuid?.() !== 0) context.skip("mounting a view needs root here");
  const lab = labs.get(mode) ?? openLab(mode);
  // The sandbox's user can reach the lab's directory, not any checkout.
  cpSync(SCRIPT, join(lab.dir, "operate.py"));
  labs.set(mode, lab);
  return lab;
}

const name = fc.constantFrom("a", "a", "a", "b", "b", "b", "c", "hid", "\xe9 \n");
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const content = fc.constantFrom("", "one", "two", "longer content");
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("write"), path, content) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("rename"), path, path) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom("unlink", "rmdir", "rmtree", "touch", "open"), path) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("mkdir"), path) },
  fc.tuple(fc.constant("append"), path, content),
  fc.tuple(fc.constant("truncate"), path, fc.nat(3)),
  fc.tuple(fc.constant("symlink"), path, fc.constantFrom("a", "b/c", "./c")),
  fc.tuple(fc.constant("link"), path, path),
  fc.tuple(fc.constant("chmod"), path, fc.constantFrom(0o755, 0o644, 0o600)),
);
const file = (at: string): readonly string[] => ["write", at, `content of ${at}`];
/** So that most operations meet something; `hid` is what a policy may hide. */
const SET_UP = [
  ["mkdir", "a"],
  file("a/a"),
  ["mkdir", "a/b"],
  file("a/b/a"),
  file("a/b/b"),
  file("a/b/hid"),
  ["symlink", "a/c", "b/a"],
  file("a/hid"),
  ["mkdir", "b"],
  file("b/a"),
  ["mkdir", "b/b"],
  ["mkdir", "b/hid"],
  file("b/hid/a"),
  file("c"),
  ["mkdir", "hid"],
  file("hid/a"),
  file("\xe9 \n"),
];
const setUp = fc.array(
  fc.oneof(fc.tuple(fc.constantFrom("mkdir", "unlink", "rmdir"), path), fc.tuple(fc.constant("write"), path, content)),
  { maxLength: 8 },
);

type Entry = readonly [path: string, kind: string, mode: string, content: string];
interface Seen {
  readonly before: readonly Entry[];
  readonly answers: readonly string[];
  readonly after: readonly Entry[];
}

function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(/[\x80-\xff]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`);
}

function operate(root: string, operations: unknown, ids?: { readonly uid: number; readonly gid: number }): Seen {
  const done = spawnSync("python3", [SCRIPT, root], { input: asciiJson(operations), encoding: "utf8", maxBuffer: 1 << 28, ...ids });
  if (done.status !== 0) throw new Error(done.stderr);
  return JSON.parse(done.stdout) as Seen;
}

const isHidden = ([at]: Entry): boolean => at.split("/").includes("hid");

/** Modes of directories are the view's own business (0755), those of files as shown. */
function plain(entries: readonly Entry[]): string[] {
  return entries.map(([at, kind, mode, text]) => (kind === "file" ? `${at} ${kind} ${mode} ${text}` : `${at} ${kind} ${text}`)).sort();
}

/** `kind path` of every difference, renames taken apart. */
function difference(before: readonly Entry[], after: readonly Entry[]): string[] {
  const [old, now] = [before, after].map((entries) => new Map(entries.map((entry) => [entry[0], entry]))) as [
    Map<string, Entry>,
    Map<string, Entry>,
  ];
  const found: string[] = [];
  for (const [at, kind] of before) if (!now.has(at)) found.push(`delete ${kind} ${at}`);
  for (const [at, kind, mode, text] of after) {
    const was = old.get(at);
    if (was === undefined) found.push(`add ${kind} ${at}`);
    else if (was[1] !== kind || was[3] !== text) found.push(`modify ${kind} ${at}`);
    else if (was[2] !== mode) found.push(`mode ${kind} ${at}`);
  }
  return found.sort();
}

/** One round: returns what may be compared. */
async function round(lab: ViewLab, policy: Policy, made: readonly unknown[], parts: readonly (readonly unknown[])[]): Promise<void> {
  const base = lab.codebase("true");
  operate(base, [...SET_UP, ...made]);
  const model = join(lab.dir, "model");
  cpSync(base, model, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  if (policy.rules.length > 1)
    for (const hidden of operate(model, []).before.filter(isHidden))
      rmSync(join(model, Buffer.from(hidden[0], "latin1").toString()), { recursive: true, force: true });
  execFileSync("chown", ["-Rh", "1000:1000", model]);
  chownSync(model, 1000, 1000);
  const view = await lab.engine.prepare({ base: base, policy });
  const delta = lab.delta(view);
  try {
    let before: readonly Entry[] | undefined;
    let after: readonly Entry[] = [];
    for (const operations of parts) {
      if (before !== undefined) delta.freeze();
      const inView = delta.run(["/usr/bin/python3", join(lab.dir, "operate.py"), "."], { input: asciiJson(operations) });
      if (inView.status !== 0) throw new Error(inView.stderr);
      const seen = JSON.parse(inView.stdout) as Seen;
      const expected = operate(model, operations, { uid: 1000, gid: 1000 });
      expect(seen.answers).toEqual(expected.answers);
      expect(plain(seen.after)).toEqual(plain(expected.after));
      before ??= seen.before;
      after = seen.after;
    }
    const seen = { before: before ?? [], answers: [], after };
    const input: DeltaInput = {
      tool: lab.tool,
      ...(parts.length === 1 ? { upper: delta.upper } : { upper: join(delta.upper, ".."), parts: delta.parts() }),
      base,
      manifest: () => readManifest(view.manifestFile ?? ""),
      policy: compilePolicy(policy),
      trusted: lab.ids.trusted,
      shownMode,
    };
    const { changes } = await readChanges(input);
    const listed = changes.flatMap(({ kind, type, path: at, from }) =>
      kind === "rename" ? [`add ${type} ${at}`, `delete ${type} ${from}`] : [`${kind} ${type} ${at}`],
    );
    expect(listed.sort()).toEqual(difference(seen.before, seen.after));
    await checkCommit(lab, { ...input, base }, seen);
  } finally {
    view.release();
    for (const dir of [base, model, join(delta.upper, ".."), join(lab.dir, "deltas")]) rmSync(dir, { recursive: true, force: true });
  }
}

async function checkCommit(lab: ViewLab, input: DeltaInput, seen: Seen): Promise<void> {
  mkdirSync(join(lab.dir, "deltas", ID), { recursive: true });
  const before = operate(input.base, []).before;
  const commit = { ...input, deltas: join(lab.dir, "deltas"), sandboxId: ID };
  const { committed, refused, conflicts, dropped } = await commitDelta(commit, liveTarget(commit), { partial: true, acceptFlagged: true });
  const after = operate(input.base, []).before;
  const hidesSome = input.policy.policy.rules.length > 1;
  const shown = (entries: readonly Entry[]): readonly Entry[] => (hidesSome ? entries.filter((entry) => !isHidden(entry)) : entries);
  expect([conflicts, dropped]).toEqual([[], []]);
  expect(plain(before.filter((entry) => !shown(before).includes(entry)))).toEqual(
    plain(after.filter((entry) => !shown(after).includes(entry))),
  );
  expect(existsSync(join(input.base, ".corral-commit"))).toBe(false);
  if (refused.length === 0) expect(plain(shown(after))).toEqual(plain(seen.after));
  else expect(hidesSome).toBe(true);
  // Without hidden names nothing of these operations is refused.
  if (!hidesSome) expect([refused, snapshot(input.base).length]).toEqual([[], seen.after.length]);
  const now = new Map(after.map((entry) => [entry[0], entry]));
  const wanted = new Map(seen.after.map((entry) => [entry[0], entry]));
  const decoded = new Map(
    [...now.keys(), ...wanted.keys(), ...before.map(([at]) => at)].map((at) => [
      at.replaceAll("\xe9", "\\xe9").replaceAll("\n", "\\n"),
      at,
    ]),
  );
  for (const { path: printed, kind } of committed) {
    const at = decoded.get(printed) ?? printed;
    expect(kind === "delete" ? now.get(at) : now.get(at)?.[3], `${kind} ${printed}`).toEqual(
      kind === "delete" ? undefined : wanted.get(at)?.[3],
    );
  }
}

const EVERYTHING: Policy = { rules: [{ pattern: "**", permission: "write" }] };
const HIDING: Policy = { rules: [...EVERYTHING.rules, { pattern: "hid", permission: "none" }] };
const RUNS = 12;

describe("a delta against a model", () => {
  for (const mode of ["root", "rootless"] as const) {
    for (const [what, policy] of [
      ["everything may be written", EVERYTHING],
      ["some names are hidden", HIDING],
    ] as const) {
      verifies(
        "view/delta-model",
        `${mode}, ${what}`,
        async (context) => {
          const lab = labFor(context, mode);
          await fuzzed(
            fc.asyncProperty(
              setUp,
              fc.array(operation, { minLength: 5, maxLength: 40 }),
              async (made, operations) => await round(lab, policy, made, [operations]),
            ),
            RUNS,
          );
        },
        600_000,
      );

      verifies(
        "view/layers-model",
        `${mode}, ${what}, over frozen layers`,
        async (context) => {
          const lab = labFor(context, mode);
          await fuzzed(
            fc.asyncProperty(
              setUp,
              fc.array(fc.array(operation, { minLength: 3, maxLength: 20 }), { minLength: 2, maxLength: 4 }),
              async (made, parts) => await round(lab, policy, made, parts),
            ),
            RUNS / 2,
          );
        },
        600_000,
      );
    }
  }
});
