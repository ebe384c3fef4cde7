// `npm run test:security [-- --controls]`: the catalogue as a table, outside the test runner. With --controls each control is run and printed
// with its kind and the run in which it succeeded unprotected. Ends with the plain closing line; exit 1 when a row is not held.

import type { RuntimeName } from "../../src/api/sandbox.ts";
import { BWRAP_MISSING } from "../bwrap.ts";
import type { OpenBed } from "./bed.ts";
import { openBed } from "./bed.ts";
import { CATALOGUE, demandControl, demandHeld } from "./catalogue.ts";

const controlsOnly = process.argv.includes("--controls");
let passed = 0;
let failed = 0;
let skipped = 0;

async function judge(line: string, act: () => Promise<void>): Promise<void> {
  const start = performance.now();
  try {
    await act();
    passed++;
    process.stdout.write(`held      ${line}  ${Math.round(performance.now() - start)} ms\n`);
  } catch (error) {
    failed++;
    process.stdout.write(`BREACHED  ${line}\n          ${error instanceof Error ? error.message.split("\n")[0] : String(error)}\n`);
  }
}

async function controls(bed: OpenBed): Promise<void> {
  for (const row of CATALOGUE) {
    try {
      await demandControl(row, bed.forRow(`control-${row.id}`));
      passed++;
      process.stdout.write(`succeeded ${row.control.kind.padEnd(8)} ${row.id}  ${new Date().toISOString()} pid ${process.pid}\n`);
    } catch (error) {
      failed++;
      process.stdout.write(
        `VOID      ${row.control.kind.padEnd(8)} ${row.id}\n          ${error instanceof Error ? error.message.split("\n")[0] : String(error)}\n`,
      );
    }
  }
}

async function attempts(runtime: RuntimeName, bed: OpenBed): Promise<void> {
  for (const row of CATALOGUE) {
    const applies = row.runtimes === undefined || row.runtimes.includes(runtime);
    const reason = !applies ? `does not apply to ${runtime}` : runtime === "bwrap" ? BWRAP_MISSING : undefined;
    if (reason !== undefined) {
      skipped++;
      process.stdout.write(`skipped   ${runtime} ${row.id}: ${reason}\n`);
      continue;
    }
    await judge(`${runtime} ${row.id}`, async () => await demandHeld(row, bed.forRow(row.id)));
  }
}

if (!controlsOnly) {
  for (const runtime of ["native", "bwrap"] as const) {
    await using bed = await openBed(runtime);
    await attempts(runtime, bed);
  }
}
await using bed = await openBed("native");
await controls(bed);
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
