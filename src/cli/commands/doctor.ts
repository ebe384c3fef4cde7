// `corral doctor`: what this machine can do, what is missing and what mends it; `--census` lists what of ours lives now.
// Invariant: it changes nothing. It ends with 1 when no runtime or no engine works, so that scripts can ask.

import type { CensusEntry, Corral, DoctorFinding, DoctorReport } from "../../api/corral.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import { inert } from "../../base/inert.ts";
import { print } from "../streams.ts";
import { coloured, paint } from "../summary.ts";

export interface DoctorOptions {
  readonly json?: boolean;
  readonly census?: boolean;
}

export async function doctor(corral: Corral, options: DoctorOptions): Promise<number> {
  if (options.census === true) return await census(corral, options);
  const report = await corral.doctor();
  const works = report.findings.every(({ state }) => state !== "missing") || usable(report);
  await print(options.json === true ? `${JSON.stringify(report)}\n` : readable(report));
  return works ? EXIT_OK : EXIT_FAILED;
}

function usable(report: DoctorReport): boolean {
  const some = (states: Readonly<Record<string, string>>): boolean => Object.values(states).some((state) => state.startsWith("ok"));
  return some(report.runtimes) && some(report.engines);
}

async function census(corral: Corral, options: DoctorOptions): Promise<number> {
  const entries = await corral.census();
  if (options.json === true) await print(`${JSON.stringify(entries)}\n`);
  else if (entries.length === 0) await print("nothing of Corral lives in this kernel or data directory\n");
  else await print(entries.map((entry) => `${censusLine(entry)}\n`).join(""));
  return EXIT_OK;
}

function censusLine({ kind, name, sandboxId, owned }: CensusEntry): string {
  return `${kind.padEnd(8)} ${sandboxId ?? "-"}  ${owned ? "owned   " : "leftover"}  ${inert(name)}`;
}

const STATE_COLOUR: Readonly<Record<DoctorFinding["state"], number>> = { ok: 32, weak: 33, missing: 31 };

function readable(report: DoctorReport): string {
  const colour = coloured(process.stdout);
  const lines = [`kernel ${report.kernel}`, ""];
  for (const [title, states] of [
    ["runtimes", report.runtimes],
    ["engines", report.engines],
  ] as const) {
    lines.push(title, ...Object.entries(states).map(([name, state]) => `  ${name.padEnd(10)} ${inert(state)}`), "");
  }
  const wide = Math.max(...report.findings.map(({ id }) => id.length), 0);
  for (const { id, state, detail, mend } of report.findings) {
    lines.push(`${paint(state.padEnd(7), STATE_COLOUR[state], colour)} ${id.padEnd(wide)}  ${inert(detail)}`);
    if (mend !== undefined) lines.push(`${" ".repeat(8 + wide)}  mend: ${inert(mend)}`);
  }
  const nameWidth = Math.max(...report.limits.map(({ name }) => name.length), 0) + 2;
  if (report.limits.length > 0) lines.push("", "how many sandboxes the limits of this machine allow");
  for (const { name, value, sandboxes } of report.limits)
    lines.push(`  ${name.padEnd(nameWidth)} ${inert(value).padEnd(12)} ${sandboxes === null ? "no bound" : sandboxes}`);
  return `${lines.join("\n")}\n`;
}
