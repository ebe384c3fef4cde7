// Whole programs over a codebase in the view against the same program over a copy on the host, interleaved.
// Both sides run with the same Node.js, Python and git of this machine; what is not installed is named and left out.

import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { tree } from "./project.ts";

const ID = "fs-program";
const GOAL = 1.05;

interface Program {
  readonly name: string;
  readonly needs: string;
  readonly line: string;
}

/** Each line leaves the tree as it found it, so that the next round meets the same state. */
const PROGRAMS: readonly Program[] = [
  {
    name: "tsc",
    needs: "node",
    line: "node compiler/node_modules/typescript/bin/tsc -p compiler --outDir output/tsc && rm -rf output/tsc",
  },
  {
    name: "npm ci, offline cache",
    needs: "npm",
    line: "cd output && cp ../install/package*.json . && npm ci --offline --no-audit --no-fund --cache ./cache >/dev/null && rm -rf node_modules package*.json",
  },
  { name: "python3 -m unittest", needs: "python3", line: "python3 -m unittest discover -s py -q 2>/dev/null" },
  {
    name: "git clone + status",
    needs: "git",
    line: "git clone -q . output/clone && git -C output/clone status --short && rm -rf output/clone",
  },
  { name: "grep -r", needs: "grep", line: "grep -rc nothing-like-this area-0 area-1 area-2 area-3 >/dev/null; true" },
];

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = prepare(join(context.scratch, "tree"));
  const native = join(context.scratch, "native");
  execFileSync("cp", ["-a", dir, native]);
  const corral = await context.open();
  const base = await corral.policies.load("development");
  await using sandbox = await corral.create({ codebaseDir: dir, policy: base });
  const rounds = context.quick ? 2 : 20;
  for (const program of PROGRAMS) {
    const reason = unusable(program, native);
    if (reason !== undefined) {
      yield row({ id: ID, metric: program.name, unit: "ms", samples: [], target: `≤ ${GOAL}x native`, note: `left out: ${reason}` });
      continue;
    }
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = -1; i < rounds; i++) {
      context.progress(program.name, Math.max(0, i), rounds);
      const a = await insideMs(sandbox, program.line);
      const b = await timed(async () => outside(native, program.line));
      if (i < 0) continue; // caches alike
      ours.push(a);
      theirs.push(b);
    }
    yield row({
      id: ID,
      metric: program.name,
      unit: "ms",
      samples: ours,
      against: { name: "native", samples: theirs },
      paired: true,
      target: `≤ ${GOAL}x native`,
      judge: ({ ratio }) => (ratio ?? 9) <= GOAL,
    });
  }
}

/** A tree with TypeScript to compile, a package to install from a local cache, Python tests and git history. */
function prepare(dir: string): string {
  tree(dir, { files: 2000, perDirectory: 20 });
  mkdirSync(join(dir, "output"), { recursive: true });
  const root = join(import.meta.dirname, "..");
  mkdirSync(join(dir, "compiler", "src"), { recursive: true });
  for (let i = 0; i < 60; i++)
    writeFileSync(
      join(dir, "compiler", "src", `m${i}.ts`),
      `export function f${i}(x: number): number {\n  return x * ${i};\n}\n`.repeat(1) +
        `export interface T${i} { a: string; b: T${i} | undefined }\n`,
    );
  writeFileSync(
    join(dir, "compiler", "tsconfig.json"),
    JSON.stringify({
      compilerOptions: { strict: true, skipLibCheck: false, module: "nodenext", rootDir: "src", target: "es2022", types: [] },
      include: ["src"],
    }),
  );
  mkdirSync(join(dir, "compiler", "node_modules"), { recursive: true });
  cpSync(join(root, "node_modules", "typescript"), join(dir, "compiler", "node_modules", "typescript"), { recursive: true });
  const platform = join(root, "node_modules", "@typescript");
  if (existsSync(platform)) cpSync(platform, join(dir, "compiler", "node_modules", "@typescript"), { recursive: true });
  mkdirSync(join(dir, "py"), { recursive: true });
  for (let i = 0; i < 40; i++)
    writeFileSync(
      join(dir, "py", `test_m${i}.py`),
      `import unittest\n\n\nclass T(unittest.TestCase):\n    def test_sum(self):\n        self.assertEqual(sum(range(${i})), ${(i * (i - 1)) / 2})\n`,
    );
  prepareInstall(dir);
  const git = (...args: string[]): void =>
    void execFileSync("git", ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid", ...args], { cwd: dir, stdio: "ignore" });
  git("init", "-q");
  git("add", "area-0", "area-1", "area-2", "area-3", "py");
  git("commit", "-q", "-m", "tree");
  return dir;
}

/** Packs three local packages into a cache, so that `npm ci --offline` has real tarballs to unpack. */
function prepareInstall(dir: string): void {
  const install = join(dir, "install");
  mkdirSync(install, { recursive: true });
  const dependencies: Record<string, string> = {};
  for (const name of ["one", "two", "three"]) {
    const source = join(dir, "install", "src", name);
    mkdirSync(source, { recursive: true });
    writeFileSync(join(source, "package.json"), JSON.stringify({ name: `bench-${name}`, version: "1.0.0" }));
    for (let i = 0; i < 200; i++) writeFileSync(join(source, `f${i}.js`), `module.exports = ${i};\n`);
    spawnSync("npm", ["pack", "--pack-destination", install], { cwd: source, stdio: "ignore" });
    dependencies[`bench-${name}`] = `file:../install/bench-${name}-1.0.0.tgz`;
  }
  writeFileSync(join(install, "package.json"), JSON.stringify({ name: "bench-install", version: "1.0.0", private: true, dependencies }));
  const output = join(dir, "output");
  cpSync(join(install, "package.json"), join(output, "package.json"));
  spawnSync("npm", ["install", "--no-audit", "--no-fund", "--cache", "./cache"], { cwd: output, stdio: "ignore" });
  cpSync(join(output, "package-lock.json"), join(install, "package-lock.json"));
  execFileSync("rm", ["-rf", "node_modules", "package.json", "package-lock.json"], { cwd: output });
}

function unusable(program: Program, native: string): string | undefined {
  if (spawnSync("sh", ["-c", `command -v ${program.needs}`]).status !== 0) return `${program.needs} is not installed`;
  return spawnSync("sh", ["-c", program.line], { cwd: native, stdio: "ignore" }).status === 0 ? undefined : "it fails on the host too";
}

async function insideMs(sandbox: Sandbox, line: string): Promise<number> {
  let stderr = "";
  const ms = await timed(async () => {
    const result = await sandbox.exec({ command: ["/bin/sh", "-c", line], cwd: "/workspace" });
    if (result.exitCode !== 0) stderr = `exit ${result.exitCode}: ${new TextDecoder().decode(result.stderr)}`;
  });
  if (stderr !== "") throw new Error(`inside: ${stderr.slice(0, 400)}`);
  return ms;
}

function outside(cwd: string, line: string): void {
  execFileSync("sh", ["-c", line], { cwd, stdio: ["ignore", "ignore", "pipe"] });
}

export const bench: Bench = { id: ID, what: "Programs in the view against native", run };
