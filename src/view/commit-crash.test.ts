// A commit that is killed, or that fails, at each of its steps: afterwards the codebase is as before or as the merged view was.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, type TestContext } from "vitest";
import { isRoot, LAB_ID, openLab, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { recover } from "./apply.ts";
import { readCommit } from "./kept.ts";
import { recoverCommits } from "./recover.ts";

const FILES = { a: "1", b: "2", "d/c": "3", "gone/x/y": "4", f: "file", moved: "m", mode: "x" };
const open: Lab[] = [];
afterEach(() => {
  for (const lab of open.splice(0)) lab.close();
}, 120_000);

/** One entry of every kind of operation. */
function change(at: string): void {
  writeFileSync(join(at, "a"), "changed");
  writeFileSync(join(at, "d/c"), "also");
  unlinkSync(join(at, "b"));
  rmSync(join(at, "gone"), { recursive: true });
  mkdirSync(join(at, "n/m"), { recursive: true });
  writeFileSync(join(at, "n/m/f"), "new");
  symlinkSync("f", join(at, "n/l"));
  unlinkSync(join(at, "f"));
  mkdirSync(join(at, "f"));
  renameSync(join(at, "moved"), join(at, "n/moved"));
  chmodSync(join(at, "mode"), 0o755);
}

async function labWith(
  context: TestContext,
  files: Record<string, string>,
  act: (merged: string) => void,
): Promise<{ lab: Lab; before: string[]; after: string[] }> {
  if (!isRoot) context.skip("mounting an overlay needs root");
  const lab = openLab(files);
  open.push(lab);
  await lab.start();
  act(lab.merged);
  const after = snapshot(lab.merged);
  lab.unmount();
  return { lab, before: snapshot(lab.base), after };
}

/** Steps of a commit that nothing disturbs, cleaning included. */
async function countSteps(context: TestContext, files: Record<string, string>, act: (merged: string) => void): Promise<number> {
  const { lab } = await labWith(context, files, act);
  let steps = 0;
  const { tool } = lab;
  const [{ commitDelta }, { liveTarget }] = await Promise.all([import("./commit.ts"), import("./commit-live.ts")]);
  const counting: typeof tool = (argv, input) => {
    const run = tool(argv, input);
    if (argv[1] !== "apply") return run;
    return { ...run, stdout: tap(run.stdout, (all) => (steps = endSteps(all))) };
  };
  const commit = { ...lab.input(), tool: counting, deltas: lab.deltas, sandboxId: LAB_ID };
  await commitDelta(commit, liveTarget(commit));
  lab.close();
  return steps;
}

async function* tap(chunks: AsyncIterable<Uint8Array>, done: (all: Buffer) => void): AsyncGenerator<Uint8Array> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) {
    all.push(Buffer.from(chunk));
    done(Buffer.concat(all));
    yield chunk;
  }
}

/** The end record is the last 18 bytes when it has no message: tag, outcome, errno, operation, steps, length 0. */
function endSteps(all: Buffer): number {
  return all.length < 18 ? 0 : all.readUInt32LE(all.length - 8);
}

async function nextStart(lab: Lab): Promise<void> {
  const { failed } = await recoverCommits(lab.tool, lab.deltas);
  expect(failed).toEqual([]);
}

function leftovers(lab: Lab): string[] {
  return readdirSync(lab.base).filter((name) => name.startsWith(".corral-commit-"));
}

describe("a commit that is cut off", () => {
  verifies(
    "view/commit-crash",
    "killed at any step it is all or nothing after the next start, and can be committed again",
    async (context) => {
      const steps = await countSteps(context, FILES, change);
      expect(steps).toBeGreaterThan(25);
      let applied = 0;
      for (let step = 1; step <= steps; step++) {
        const { lab, before, after } = await labWith(context, FILES, change);
        await expect(lab.commit({}, { failpoint: ["--fail-at", String(step)] }), `step ${step}`).rejects.toThrow();
        await nextStart(lab);
        const now = snapshot(lab.base);
        if (now.join() === after.join()) applied += 1;
        else expect(now, `step ${step}`).toEqual(before);
        expect([leftovers(lab), readCommit(lab.deltas, LAB_ID)], `step ${step}`).toEqual([[], undefined]);
        expect((await lab.commit()).whole, `step ${step}`).toBe(true);
        expect(snapshot(lab.base), `step ${step}`).toEqual(after);
        lab.close();
      }
      // Both answers were seen: the failpoints lie on both sides of the decision.
      expect(applied).toBeGreaterThan(8);
      expect(steps - applied).toBeGreaterThan(8);
    },
    240_000,
  );

  verifies(
    "view/commit-error",
    "failing at any step for want of space it takes everything back, and the delta is as before",
    async (context) => {
      const steps = await countSteps(context, FILES, change);
      for (let step = 1; step <= steps; step++) {
        const { lab, before, after } = await labWith(context, FILES, change);
        await expect(
          lab.commit({}, { failpoint: ["--fail-at", String(step), "--fail-errno", "28"] }),
          `step ${step}`,
        ).rejects.toMatchObject({ code: "disk_full" });
        expect(snapshot(lab.base), `step ${step}`).toEqual(before);
        expect([leftovers(lab), readCommit(lab.deltas, LAB_ID)], `step ${step}`).toEqual([[], undefined]);
        expect((await lab.commit()).whole, `step ${step}`).toBe(true);
        expect(snapshot(lab.base), `step ${step}`).toEqual(after);
        lab.close();
      }
    },
    240_000,
  );

  it("a recovery that is killed at any step is continued by the next", async (context) => {
    const steps = await countSteps(context, FILES, change);
    for (let step = Math.floor(steps / 2); step <= steps; step += 7) {
      for (let second = 1; second <= 12; second++) {
        const { lab, before, after } = await labWith(context, FILES, change);
        await lab.commit({}, { failpoint: ["--fail-at", String(step)] }).catch(() => undefined);
        const { stage = "" } = readCommit(lab.deltas, LAB_ID) ?? {};
        await recover(lab.tool, lab.base, stage, { clean: true, failpoint: ["--fail-at", String(second)] }).catch(() => undefined);
        if (existsSync(join(lab.base, stage))) await nextStart(lab);
        const now = snapshot(lab.base);
        expect([before.join(), after.join()], `steps ${step}, ${second}`).toContain(now.join());
        expect(leftovers(lab), `steps ${step}, ${second}`).toEqual([]);
        lab.close();
      }
    }
  }, 240_000);

  verifies(
    "view/commit-crash-large",
    "killed in the middle of 10,000 files it is all or nothing too",
    async (context) => {
      const files = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`d${i % 50}/f${i}`, `old ${i}`]));
      const many = (at: string): void => {
        for (let i = 0; i < 1_000; i++) writeFileSync(join(at, `d${i % 50}/f${i}`), `new content ${i}`);
        for (let i = 0; i < 9_000; i++) writeFileSync(join(at, `d${i % 50}/n${i}`), `made ${i}`);
      };
      const { lab, before, after } = await labWith(context, files, many);
      // While files are copied, right before the decision, in the middle of the renames.
      for (const [step, wanted] of [
        [3_000, before],
        [10_005, before],
        [15_000, after],
      ] as const) {
        await expect(lab.commit({}, { failpoint: ["--fail-at", String(step)] })).rejects.toThrow();
        expect(leftovers(lab)).toHaveLength(1);
        await nextStart(lab);
        // Not toEqual: a difference of 10,000 lines helps nobody.
        expect(snapshot(lab.base).join() === wanted.join(), `step ${step}`).toBe(true);
        expect(leftovers(lab)).toEqual([]);
      }
    },
    240_000,
  );

  it("what the person changed between the crash and the next start is not overwritten: everything goes back", async (context) => {
    const steps = await countSteps(context, FILES, change);
    const { lab, before } = await labWith(context, FILES, change);
    // The first operations stand by then, the last do not.
    await lab.commit({}, { failpoint: ["--fail-at", String(steps - 9)] }).catch(() => undefined);
    mkdirSync(join(lab.base, "n"));
    await nextStart(lab);
    expect(snapshot(lab.base)).toEqual([...before, "/n dir 755"].sort());
    expect(leftovers(lab)).toEqual([]);
  });
});

describe("a full disk", () => {
  verifies("view/commit-disk-full", "a commit that does not fit applies nothing and says disk_full", async (context) => {
    if (!isRoot) context.skip("mounting a small file system needs root");
    const lab = openLab();
    open.push(lab);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", lab.base]);
    try {
      writeFileSync(join(lab.base, "a"), "1");
      await lab.start();
      writeFileSync(join(lab.merged, "a"), "2");
      writeFileSync(join(lab.merged, "big"), Buffer.alloc(4 * 1024 * 1024, 1));
      lab.unmount();
      await expect(lab.commit()).rejects.toMatchObject({ code: "disk_full" });
      expect(snapshot(lab.base)).toEqual(["/a file 644 1"]);
      expect(readCommit(lab.deltas, LAB_ID)).toBeUndefined();
      await lab.commit({ paths: ["/a"] });
      expect(snapshot(lab.base)).toEqual(["/a file 644 2"]);
    } finally {
      lab.unmount();
      execFileSync("umount", [lab.base]);
    }
  });
});
