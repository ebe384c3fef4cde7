// Runs the catalogue on both runtimes: each row held, each control succeeded, in the same run on the same kernel.

import { afterAll, beforeAll, beforeEach, describe } from "vitest";
import type { RuntimeName } from "../../src/api/sandbox.ts";
import { BWRAP_MISSING } from "../bwrap.ts";
import { verifies } from "../verifies.ts";
import type { OpenBed } from "./bed.ts";
import { openBed } from "./bed.ts";
import { CATALOGUE, demandControl, demandHeld } from "./catalogue.ts";

const ROW_MS = 120_000;
const RUNTIMES: readonly RuntimeName[] = ["native", "bwrap"];

for (const runtime of RUNTIMES) {
  describe(`attempts on ${runtime}`, () => {
    let bed: OpenBed;
    beforeAll(async () => {
      bed = await openBed(runtime);
    }, ROW_MS);
    afterAll(async () => {
      await bed[Symbol.asyncDispose]();
    });
    beforeEach((context) => {
      if (runtime === "bwrap" && BWRAP_MISSING !== undefined) context.skip(BWRAP_MISSING);
    });
    for (const row of CATALOGUE) {
      if (row.runtimes !== undefined && !row.runtimes.includes(runtime)) continue;
      verifies("security/attempts-held", `${row.id}: ${row.what}`, async () => await demandHeld(row, bed.forRow(row.id)), ROW_MS);
    }
  });
}

describe("controls", () => {
  let bed: OpenBed;
  beforeAll(async () => {
    bed = await openBed("native");
  }, ROW_MS);
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
  });
  for (const row of CATALOGUE)
    verifies(
      "security/controls-succeed",
      `${row.id}: ${row.control.kind}`,
      async () => await demandControl(row, bed.forRow(`control-${row.id}`)),
      ROW_MS,
    );
});
