import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { checkMatrix, compareHidden, type ViewBed } from "../../test/conformance/view.ts";
import { openLab, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { verifies } from "../../test/verifies.ts";

const MODES: readonly LabMode[] = ["root", "rootless"];

function bedOf(lab: ViewLab): ViewBed {
  return {
    ops: lab.build("ops"),
    emptyCodebase: () => mkdtempSync(join(lab.dir, "base-")),
    enter: async (codebase, policy, presetDirs = []) => {
      const delta = lab.delta(await lab.engine.prepare({ dir: codebase, policy, presetDirs }));
      return { run: async (argv, input = "") => delta.run(argv, { input }) };
    },
  };
}

describe.each(MODES)("the kernel engine, %s", (mode) => {
  let lab: ViewLab;
  let bed: ViewBed;
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
});
