// Random trees under random policies, mounted for real: what a program in the view can list, look at, read and write of each path must be
// what the verdict of that path says. What the verdict means is policy.property.test.ts's; what a plan holds is plan.property.test.ts's.

import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, type TestContext } from "vitest";
import type { Permission, Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { fuzzed } from "../../test/fuzz/budget.ts";
import { openLab, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { ROOT } from "../../test/tools/tree.ts";
import { verifies } from "../../test/verifies.ts";

const RUNS = 6;
const labs = new Map<LabMode, ViewLab>();
afterAll(() => {
  for (const lab of labs.values()) lab[Symbol.dispose]();
});

function labFor(context: TestContext, mode: LabMode): ViewLab {
  if (process.getuid?.() !== 0) context.skip("mounting a view needs root here");
  const lab = labs.get(mode) ?? openLab(mode);
  cpSync(join(ROOT, "test", "fixtures", "mask-look.py"), join(lab.dir, "look.py"));
  labs.set(mode, lab);
  return lab;
}

const NAMES = ["a", "b", "c", "x.key", ".env", "read.md"] as const;
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 4 }).map((names) => names.join("/"));
/** Those that stand on another's place are left out. */
const trees = fc
  .uniqueArray(path, { minLength: 1, maxLength: 14 })
  .map((paths) => paths.filter((one) => !paths.some((other) => other.startsWith(`${one}/`))));
const segment = fc.constantFrom("a", "b", "c", "*", "**", "*.key", "*.md", ".env*", "a/b", "?", "[ab]", "{a,x}*");
const pattern = fc
  .tuple(fc.boolean(), fc.array(segment, { minLength: 1, maxLength: 3 }), fc.boolean())
  .map(([isRooted, segments, isDir]) => `${isRooted ? "/" : ""}${segments.join("/")}${isDir ? "/" : ""}`);
const policies: fc.Arbitrary<Policy> = fc
  .tuple(
    fc.constantFrom<Permission>("none", "view", "read", "write"),
    fc.array(fc.record({ pattern, permission: fc.constantFrom<Permission>("none", "none", "view", "read", "write") }), { maxLength: 6 }),
  )
  .map(([permission, rules]) => ({ rules: [{ pattern: "**", permission }, ...rules] }));

const ANSWERS: Readonly<Record<Permission, readonly string[]>> = {
  none: ["ENOENT", "ENOENT", "ENOENT"],
  view: ["ok", "EACCES", "EACCES"],
  read: ["ok", "ok", "EACCES"],
  write: ["ok", "ok", "ok"],
};

interface Looked {
  readonly listed: readonly string[];
  readonly seen: Readonly<Record<string, readonly string[]>>;
}

/** Every directory above a file of the tree, each once. */
function dirsOf(files: readonly string[]): string[] {
  const above = (file: string): string[] => (dirname(file) === "." ? [] : [dirname(file), ...above(dirname(file))]);
  return [...new Set(files.flatMap(above))];
}

async function round(lab: ViewLab, files: readonly string[], policy: Policy): Promise<void> {
  const base = lab.codebase("true");
  try {
    for (const file of files) {
      mkdirSync(dirname(join(base, file)), { recursive: true });
      writeFileSync(join(base, file), "content");
    }
    const view = await lab.engine.prepare({ base, policy });
    const done = lab.delta(view).run(["/usr/bin/python3", join(lab.dir, "look.py")], { input: JSON.stringify(files) });
    if (done.status !== 0) throw new Error(done.stderr);
    const { listed, seen } = JSON.parse(done.stdout) as Looked;
    const compiled = compilePolicy(policy);
    const level = (at: string, kind: "dir" | "file"): Permission => compiled.verdict(`/${at}`, kind, () => false).permission;
    for (const file of files) expect([file, ...(seen[file] ?? [])]).toEqual([file, ...ANSWERS[level(file, "file")]]);
    const open = [...files.filter((file) => level(file, "file") !== "none"), ...dirsOf(files).filter((at) => level(at, "dir") !== "none")];
    // A directory that is hidden itself is a passage to what is open below it.
    expect(listed).toEqual([...new Set([...open, ...dirsOf(open)])].sort());
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

describe("a mask that is mounted", () => {
  for (const mode of ["root", "rootless"] as const)
    verifies(
      "view/mask-mounted",
      `shows of any tree what any policy says of it, ${mode}`,
      async (context) => {
        const lab = labFor(context, mode);
        await fuzzed(
          fc.asyncProperty(trees, policies, async (files, policy) => await round(lab, files, policy)),
          RUNS,
        );
      },
      120_000,
    );
});
