import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { checkMatrix, compareHidden } from "../../test/conformance/view.ts";
import { failedStories } from "../../test/conformance/view-tools.ts";
import { observeTwin, type TwinBed } from "../../test/conformance/view-twin.ts";
import { openLab, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { verifies } from "../../test/verifies.ts";

const MODES: readonly LabMode[] = ["root", "rootless"];

function bedOf(lab: ViewLab): TwinBed {
  return {
    observe: lab.build("observe"),
    ops: lab.build("ops"),
    emptyCodebase: () => mkdtempSync(join(lab.dir, "base-")),
    enter: async (codebase, policy, presetDirs = []) => {
      const delta = lab.delta(await lab.engine.prepare({ base: codebase, policy, presetDirs }));
      return { run: async (argv, input = "") => delta.run(argv, { input }) };
    },
  };
}

describe.each(MODES)("the kernel engine, %s", (mode) => {
  let lab: ViewLab;
  let bed: TwinBed;
  beforeAll(() => {
    lab = openLab(mode);
    bed = bedOf(lab);
  });
  afterAll(() => {
    lab[Symbol.dispose]();
  });

  verifies("view/levels", "every system call answers as the level of its path says", async () => {
    expect(await checkMatrix(bed)).toEqual([]);
  });

  verifies("view/hidden-as-absent", "every system call on a hidden path answers as if nothing were there", async () => {
    expect(await compareHidden(bed)).toEqual([]);
  });

  verifies("view/tools-work", "git, make, sqlite, tar, python, editors and package managers work as without a view", async () => {
    expect(await failedStories(bed)).toEqual([]);
  });

  describe("the twin", () => {
    let twinLab: ViewLab;
    let twins: TwinBed;
    beforeAll(() => {
      // tmpfs numbers inodes and offsets in order of making; on ext4 they depend on what else the disk holds.
      twinLab = openLab(mode, { below: "/dev/shm" });
      twins = bedOf(twinLab);
    });
    afterAll(() => {
      twinLab[Symbol.dispose]();
    });

    verifies("view/hidden-twin", "an observer cannot tell a codebase with hidden entries from one that never had them", async () => {
      const absent = await observeTwin(twins, "absent", 3);
      expect(await observeTwin(twins, "none", 3)).toBe(absent);
      expect(await observeTwin(twins, "none", 1500)).toBe(absent);
      // The control: the observer does see them where they are not hidden.
      expect(await observeTwin(twins, "view", 3)).not.toBe(absent);
    });
  });
});
