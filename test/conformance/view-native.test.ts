// The view's suite inside real sandboxes: the kernel engine over the native runtime, with its tools run by the spawner. What the
// view's own tests prove over a bare mount is proved here behind every other wall.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { openNativeRuntime } from "../../src/runtime/native/runtime.ts";
import { filterArch, seccompProgram } from "../../src/runtime/seccomp/filter.ts";
import { type KernelView, openKernelView } from "../../src/view/kernel.ts";
import { compileAttempt } from "../fixtures/view-lab.ts";
import { verifies } from "../verifies.ts";
import { type Lab, openLab, run } from "./runtime-lab.ts";
import { failedStories } from "./view-tools.ts";
import { observeTwin, type TwinBed } from "./view-twin.ts";
import { checkMatrix, compareHidden } from "./view.ts";

const BUILD_MS = 180_000;

describe("the kernel engine in sandboxes of the native runtime", () => {
  const made: { lab?: Lab; bed?: TwinBed } = {};
  const bed = (): TwinBed => made.bed as TwinBed;

  beforeAll(async () => {
    const lab = await openLab(({ runDir }) =>
      openNativeRuntime({
        guestBinary: guestProgram(),
        runDir,
        mode: "auto",
        seccomp: seccompProgram({ arch: filterArch() ?? "x64", pid1Clone3: true }),
      }),
    );
    made.lab = lab;
    made.bed = bedOf(lab, openKernelView({ tool: lab.runtime.tool, ids: lab.runtime.ids, cacheDir: join(lab.dir, "cache") }));
  }, BUILD_MS);

  afterAll(async () => {
    await made.lab?.runtime[Symbol.asyncDispose]();
    if (made.lab !== undefined) rmSync(made.lab.dir, { recursive: true, force: true });
  });

  verifies("view/levels", "every system call answers as the level of its path says", async () => {
    expect(await checkMatrix(bed())).toEqual([]);
  });

  verifies("view/hidden-as-absent", "every system call on a hidden path answers as if nothing were there", async () => {
    expect(await compareHidden(bed())).toEqual([]);
  });

  verifies("view/hidden-twin", "an observer cannot tell a codebase with hidden entries from one that never had them", async () => {
    const absent = await observeTwin(bed(), "absent", 20);
    expect(await observeTwin(bed(), "none", 20)).toBe(absent);
    expect(await observeTwin(bed(), "view", 20)).not.toBe(absent);
  });

  verifies("view/tools-work", "git, make, sqlite, tar, python, editors and package managers work in a sandbox", async () => {
    expect(await failedStories(bed())).toEqual([]);
  });
});

function bedOf(lab: Lab, engine: KernelView): TwinBed {
  return {
    ops: compileAttempt("ops", lab.dir),
    observe: compileAttempt("observe", lab.dir),
    emptyCodebase: () => mkdtempSync(join(lab.dir, "base-")),
    enter: async (dir, policy, presetDirs = []) => {
      const prepared = await engine.prepare({ base: dir, policy, presetDirs });
      const delta = mkdtempSync(join(lab.dir, "delta-"));
      const mount = prepared.mount({ upper: join(delta, "upper"), work: join(delta, "work") });
      // The lab's own workspace stands last.
      const container = await lab.make({ mounts: [...lab.spec().mounts.slice(0, -1), mount] });
      return {
        run: async (argv, input = "") => {
          const { exit, stdout, stderr } = await run(container, argv, { input: Buffer.from(input, "latin1"), timeoutMs: 120_000 });
          return { stdout: stdout.toString("latin1"), stderr: stderr.toString("latin1"), status: exit.code };
        },
      };
    },
  };
}
