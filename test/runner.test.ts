// The runner on a small project of its own (test/fixtures/runner), as a process: what its last lines say and what it ends with.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const PROJECT = join(ROOT, "test/fixtures/runner");

function run(...filters: string[]): { readonly code: number | null; readonly lines: readonly string[] } {
  const program = `import { run } from ${JSON.stringify(join(ROOT, "test/tools/run.ts"))};
process.exitCode = await run(${JSON.stringify(PROJECT)}, ${JSON.stringify(filters)});`;
  // Without what this vitest told its own children.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^VITEST|^NODE_ENV$|^TEST$/.test(name)));
  const done = spawnSync(process.execPath, ["--input-type=module", "--eval", program], { cwd: ROOT, encoding: "utf8", env });
  return { code: done.status, lines: done.stdout.trimEnd().split("\n") };
}

describe("the test runner", () => {
  verifies("house/runner-closing", "skips are printed with their reason and the closing line stands alone and last", () => {
    const { code, lines } = run("good");
    expect(lines.slice(-2)).toEqual(["skipped: good.sample.ts > cannot run here: no moon tonight", "1 passed, 0 failed, 1 skipped"]);
    expect(code).toBe(0);
  });

  verifies("house/runner-truthful", "a failure, a broken file, a skip without a reason and a run of nothing end with 1", () => {
    const bad = run("good", "bad");
    expect(bad.lines.slice(-2)).toEqual(["failed: bad.sample.ts > fails", "1 passed, 1 failed, 1 skipped"]);
    expect(bad.code).toBe(1);
    const broken = run("broken");
    expect(broken.lines.at(-1)).toBe("0 passed, 1 failed, 0 skipped");
    expect(broken.code).toBe(1);
    const nothing = run("no-such-file");
    expect(nothing.lines.slice(-2)).toEqual(["no test ran", "0 passed, 0 failed, 0 skipped"]);
    expect(nothing.code).toBe(1);
  });

  it("does not let a skip without a reason pass", () => {
    const { code, lines } = run("silent");
    expect(lines).toContain("skipped: silent.sample.ts > skips without a word: NO REASON GIVEN");
    expect(lines.at(-1)).toBe("1 passed, 0 failed, 1 skipped");
    expect(code).toBe(1);
  });
});
