// Runs the catalogue of src/attack on both runtimes, once: each row held, each control succeeded, in the same run on the same kernel.
// What it found is the report of `corral doctor --attack`; where CORRAL_ATTACK_REPORT names a file, it is written there.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { AttackRow } from "../../src/api/attack.ts";
import type { OpenBed } from "../../src/attack/bed.ts";
import { openBed } from "../../src/attack/bed.ts";
import { CATALOGUE } from "../../src/attack/catalogue.ts";
import { type Control, controls, judge, skipped } from "../../src/attack/judge.ts";
import { PLANNED, plannedRow } from "../../src/attack/planned.ts";
import { ATTACK_RUNTIMES, describeMachine, report } from "../../src/attack/run.ts";
import { BWRAP_MISSING } from "../bwrap.ts";
import { ROOT } from "../tools/tree.ts";
import { verifies } from "../verifies.ts";

const ROW_MS = 120_000;
const BUILD = join(ROOT, "guest", "build");
const PLACE = { buildDir: BUILD, env: process.env, uid: process.getuid?.() ?? 0, version: "test" };

let bed: OpenBed;
let control: Control;
const rows: AttackRow[] = [];

beforeAll(async () => {
  bed = await openBed(PLACE);
  control = controls(bed, "native");
}, ROW_MS);

afterAll(async () => {
  const file = process.env["CORRAL_ATTACK_REPORT"];
  const unbuilt = PLANNED.map((one) => plannedRow(one, "native"));
  if (file !== undefined) writeFileSync(file, JSON.stringify(report(await describeMachine(PLACE, bed), [...rows, ...unbuilt])));
  await bed[Symbol.asyncDispose]();
});

for (const runtime of ATTACK_RUNTIMES) {
  describe(`attempts on ${runtime}`, () => {
    for (const row of CATALOGUE) {
      const { promise } = { promise: "security/attempts-held", ...row };
      // What is of no runtime is tried once.
      if (row.onServer === true && runtime !== ATTACK_RUNTIMES[0]) continue;
      if (row.runtimes !== undefined && !row.runtimes.includes(runtime)) {
        rows.push(skipped(row, runtime, `does not apply to ${runtime}`));
        continue;
      }
      verifies(
        promise,
        `${row.id}: ${row.what}`,
        async (context) => {
          if (runtime === "bwrap" && BWRAP_MISSING !== undefined) return context.skip(BWRAP_MISSING);
          const judged = await judge(row, runtime, { bed, control, weakenings: [] });
          rows.push(judged);
          // A control that failed is told below, once.
          if (judged.control.result === "succeeded") expect(judged).toMatchObject({ result: row.open === undefined ? "held" : "open" });
        },
        ROW_MS,
      );
    }
  });
}

describe("controls", () => {
  for (const row of CATALOGUE)
    verifies("security/controls-succeed", `${row.id}: ${row.control.kind}`, async () => expect(await control(row)).toBeUndefined(), ROW_MS);
});
