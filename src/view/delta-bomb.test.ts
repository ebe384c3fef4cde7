import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { isRoot, openLab, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { deltaText } from "./text.ts";

let lab: Lab;
afterEach(() => lab?.close(), 120_000);

const CHILD = fileURLToPath(new URL("../../test/fixtures/delta-bomb.ts", import.meta.url));

verifies(
  "view/delta-bomb",
  "100,000 entries are listed, shown and exported in a heap of 160 MB",
  () => {
    lab = openLab();
    writeFileSync(join(lab.upper, "first"), "content\n");
    // Hard links: as many entries, a hundredth of the work to make them.
    for (let dir = 0; dir < 100; dir++) {
      mkdirSync(join(lab.upper, `d${dir}`));
      const first = join(lab.upper, `d${dir}`, "f0");
      writeFileSync(first, "content\n");
      for (let file = 1; file < 1_000; file++) linkSync(first, join(lab.upper, `d${dir}`, `f${file}`));
    }
    const seen = JSON.parse(
      execFileSync(process.execPath, ["--max-old-space-size=160", CHILD, lab.base, lab.upper], { encoding: "utf8" }),
    ) as Record<string, number>;
    expect(seen["changes"]).toBe(100_101);
    expect(seen["textBytes"]).toBeGreaterThan(100_001 * 100);
    expect(seen["tarBytes"]).toBe((100_001 * 2 + 100 + 2) * 512);
    expect(seen["rssMb"]).toBeLessThan(450);
  },
  240_000,
);

it("a reader that goes away in the middle ends the tool", async (context) => {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab();
  await lab.start();
  for (let file = 0; file < 50; file++) writeFileSync(join(lab.merged, `f${file}`), "x\n".repeat(50_000));
  const running: Promise<void>[] = [];
  const input = lab.input();
  const tool: typeof input.tool = (argv, stdin) => {
    const run = input.tool(argv, stdin);
    running.push(run.done);
    return run;
  };
  const text = deltaText({ ...input, tool }, await lab.changes());
  await text.next();
  await text.return(undefined);
  await Promise.allSettled(running);
  expect(running).toHaveLength(1);
});
