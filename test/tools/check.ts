// The one check command: `./corral check [--fix]`. Types, lint, format, dead code, and the house tests (layers, promises, surface, papers,
// budgets, safety). Not the test suite. Prints one line for each check, and below it what a failed one said.
// Invariant: exit 0 means that every check ran and found nothing. A tool that cannot start has failed.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { startVitest, type Reporter, type TestModule } from "vitest/node";
import { prunedLock, writeLock } from "./lock.ts";
import { ROOT } from "./tree.ts";

interface Outcome {
  readonly name: string;
  /** Empty when the check passed. */
  readonly problems: string;
  readonly durationMs: number;
}

/** Checks that are programs, by the file that Node.js or the kernel starts. */
const TOOLS: readonly { readonly name: string; readonly argv: readonly string[]; readonly fix?: readonly string[] }[] = [
  { name: "types", argv: ["tsc", "--project", "."] },
  { name: "lint", argv: ["oxlint", "--type-aware", "--deny-warnings", "--format", "unix"] },
  { name: "format", argv: ["biome", "check", "--reporter", "summary", "--max-diagnostics", "none"], fix: ["biome", "check", "--write"] },
  { name: "dead code", argv: ["knip", "--no-progress"] },
];

/** House tests, each a check of its own. */
const HOUSE = ["layers", "spec", "surface", "errors-page", "docs", "budgets", "safety"] as const;

/** Runs one tool of node_modules under this Node.js: PATH may hold an older one. */
function runTool(name: string, argv: readonly string[]): Promise<Outcome> {
  const started = performance.now();
  const [tool = "", ...rest] = argv;
  return new Promise((resolve) => {
    const env = { ...process.env, PATH: `${join(process.execPath, "..")}:${process.env["PATH"] ?? ""}` };
    const child = spawn(join(ROOT, "node_modules/.bin", tool), rest, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    const end = (problems: string): void => resolve({ name, problems, durationMs: performance.now() - started });
    child.on("error", (error) => end(`${tool} could not be started: ${error.message}`));
    child.on("close", (code, signal) => end(code === 0 ? "" : `${Buffer.concat(chunks).toString()}\n${tool} ended with ${code ?? signal}`));
  });
}

/** What went wrong in one file of tests; a file without tests is wrong too. */
function problemsOf(module: TestModule): string {
  const said = module.errors().map((error) => error.message);
  let count = 0;
  for (const test of module.children.allTests()) {
    count += 1;
    for (const error of test.result().errors ?? []) said.push(`${test.fullName}\n${error.diff ?? error.message}`);
  }
  return count === 0 && said.length === 0 ? "no test ran" : said.join("\n");
}

/** The house tests in one vitest: each file becomes one check. */
async function runHouse(update: boolean): Promise<Outcome[]> {
  const modules: TestModule[] = [];
  const reporter: Reporter = { onTestModuleEnd: (module) => void modules.push(module) };
  const filters = HOUSE.map((name) => `test/${name}.test.ts`);
  const vitest = await startVitest("test", filters, { root: ROOT, watch: false, update, reporters: [reporter] });
  await vitest.close();
  return HOUSE.map((name) => {
    const module = modules.find((candidate) => candidate.relativeModuleId === `test/${name}.test.ts`);
    if (module === undefined) return { name, problems: `test/${name}.test.ts did not run`, durationMs: 0 };
    return { name, problems: problemsOf(module), durationMs: module.diagnostic().duration };
  });
}

function runLock(fix: boolean): Outcome {
  const started = performance.now();
  const { dropped, text } = prunedLock();
  if (fix && dropped.length > 0) writeLock(text);
  const problems =
    fix || dropped.length === 0 ? "" : `npm ci would refuse it: named but not held: ${dropped.join(", ")}; run ./corral check --fix`;
  return { name: "lock file", problems, durationMs: performance.now() - started };
}

function print({ name, problems, durationMs }: Outcome): void {
  process.stdout.write(`${problems === "" ? "ok    " : "FAILED"} ${name.padEnd(12)} ${(durationMs / 1000).toFixed(1)} s\n`);
  if (problems !== "")
    process.stdout.write(
      `${problems
        .trim()
        .replace(/\n\s*\n/g, "\n")
        .replace(/^/gm, "       ")}\n`,
    );
}

async function main(argv: readonly string[]): Promise<number> {
  const fix = argv.includes("--fix");
  if (argv.some((argument) => argument !== "--fix")) {
    process.stderr.write("usage: ./corral check [--fix]\n");
    return 2;
  }
  let failed = 0;
  const tell = (outcome: Outcome): void => {
    print(outcome);
    if (outcome.problems !== "") failed += 1;
  };
  tell(runLock(fix));
  const house = runHouse(fix);
  for (const tool of TOOLS) tell(await runTool(tool.name, fix && tool.fix !== undefined ? tool.fix : tool.argv));
  for (const outcome of await house) tell(outcome);
  process.stdout.write(failed === 0 ? "all checks passed\n" : `${failed} checks failed\n`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
