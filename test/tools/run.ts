// The test runner's front door: `./corral test [FILTER…]`. Vitest does the work; this file adds what a reader of a log needs:
// every skip with its reason, and one closing line, alone and last: `N passed, N failed, N skipped`.
// Invariant: exit 0 means that tests ran, none failed, and each skip says why. A run of nothing is a failure.

import { startVitest, type Reporter, type TestCase, type TestModule } from "vitest/node";
import { leftOut } from "./needs-root.ts";
import { ROOT } from "./tree.ts";

interface Tally {
  passed: number;
  /** Failed tests, and files or hooks that broke before their tests could run. */
  readonly failed: string[];
  readonly skipped: { readonly name: string; readonly reason: string | undefined }[];
}

/** What the closing lines say of a finished run. */
function closing(tally: Tally): { readonly lines: readonly string[]; readonly exitCode: number } {
  const lines = tally.skipped.map(({ name, reason }) => `skipped: ${name}: ${reason ?? "NO REASON GIVEN"}`);
  const unexplained = tally.skipped.filter(({ reason }) => reason === undefined).length;
  const ran = tally.passed + tally.failed.length;
  if (unexplained > 0) lines.push(`${unexplained} skipped without a reason: call context.skip("why") in the test`);
  if (ran === 0) lines.push("no test ran");
  lines.push(...tally.failed.map((name) => `failed: ${name}`));
  lines.push(`${tally.passed} passed, ${tally.failed.length} failed, ${tally.skipped.length} skipped`);
  return { lines, exitCode: ran === 0 || unexplained > 0 || tally.failed.length > 0 ? 1 : 0 };
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName}`;
}

/** Adds up one finished run. */
function count(modules: readonly TestModule[], unhandled: number, only: RegExp = /^/): Tally {
  const tally: Tally = { passed: 0, failed: [], skipped: [] };
  for (const module of modules) {
    for (const test of module.children.allTests()) {
      if (!only.test(test.fullName)) continue;
      const result = test.result();
      if (result.state === "passed") tally.passed += 1;
      else if (result.state === "skipped") tally.skipped.push({ name: nameOf(test), reason: result.note });
      else tally.failed.push(nameOf(test)); // pending too: the run was cut off in it
    }
    const suites = [module, ...module.children.allSuites()];
    for (const suite of suites) {
      if (suite.errors().length > 0) tally.failed.push(`${module.relativeModuleId}: broke outside its tests`);
    }
  }
  if (unhandled > 0) tally.failed.push(`${unhandled} errors outside any test`);
  return tally;
}

/** Runs the tests below `root` that match a filter, `only` those whose names match, prints skips and the closing line, returns the exit code. */
export async function run(root: string, filters: string[], only?: RegExp): Promise<number> {
  let tally: Tally = { passed: 0, failed: [], skipped: [] };
  const reporter: Reporter = {
    onTestRunEnd: (modules, errors) => {
      tally = count(modules, errors.length, only);
    },
  };
  const vitest = await startVitest("test", filters, {
    root,
    watch: false,
    reporters: ["default", reporter],
    ...(only === undefined ? {} : { testNamePattern: only }),
  });
  await vitest.close();
  for (const [file, reason] of leftOut(process.getuid?.()))
    if (root === ROOT && (filters.length === 0 || filters.some((filter) => file.includes(filter))))
      tally.skipped.push({ name: file, reason });
  const { lines, exitCode } = closing(tally);
  process.stdout.write(`\n${lines.join("\n")}\n`);
  return exitCode;
}

if (import.meta.main) process.exitCode = await run(ROOT, process.argv.slice(2));
