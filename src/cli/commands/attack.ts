// `corral doctor --attack`: tries to break out of sandboxes on this machine, prints each attempt as it ends and a table of all.
// Invariant: it ends with 1 when an attempt got through, or when none was held, so that scripts can ask; `void` and `skipped` never count as held.

import { ATTACK_CLASSES, ATTACK_RESULTS, type AttackReport, type AttackRow } from "../../api/attack.ts";
import { EXIT_FAILED, EXIT_OK, EXIT_SIGNAL } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { inert } from "../../base/inert.ts";
import { interruption } from "../interrupt.ts";
import { print } from "../streams.ts";
import { coloured, paint } from "../summary.ts";
import { table } from "../table.ts";

export interface AttackOptions {
  readonly runtime?: string;
  readonly class?: string;
  readonly id?: string;
  readonly json?: boolean;
}

const COLOUR: Readonly<Record<AttackRow["result"], number>> = { held: 32, breached: 31, void: 33, open: 33, skipped: 90 };

export async function attack(options: AttackOptions, host: CliHost): Promise<number> {
  using stop = interruption();
  const { json = false, runtime, class: kind, id } = options;
  const wanted = {
    ...(runtime === undefined ? {} : { runtime }),
    ...(kind === undefined ? {} : { class: kind }),
    ...(id === undefined ? {} : { id }),
  };
  const colour = coloured(process.stdout);
  const onRow = (row: AttackRow, done: number, all: number): Promise<void> => print(`${line(row, colour)}  ${done}/${all}\n`);
  const report = await host.attack({ ...wanted, signal: stop.soft, ...(json ? {} : { onRow }) });
  await print(json ? `${JSON.stringify(report)}\n` : `\n${summary(report)}`);
  if (stop.signal !== undefined) return EXIT_SIGNAL + stop.signal;
  return report.failed > 0 || report.passed === 0 ? EXIT_FAILED : EXIT_OK;
}

function line(row: AttackRow, colour: boolean): string {
  const control = row.control.result === "not run" ? "" : `  control ${row.control.kind} ${row.control.result}`;
  const why = row.reason === undefined ? "" : `: ${inert(row.reason)}`;
  return `${paint(row.result.padEnd(8), COLOUR[row.result], colour)} ${row.runtime.padEnd(6)} ${row.id}${why}${control}  ${row.ms} ms`;
}

function summary(report: AttackReport): string {
  const classes = ATTACK_CLASSES.filter((name) => report.rows.some((row) => row.class === name));
  const cells = classes.map((name) => {
    const rows = report.rows.filter((row) => row.class === name);
    return [name, ...ATTACK_RESULTS.map((result) => String(rows.filter((row) => row.result === result).length))];
  });
  const { kernel, user, runtimes, weakenings } = report.machine;
  const weaker = weakenings.length === 0 ? "" : `; weaker here: ${weakenings.join(", ")}`;
  const where = `kernel ${kernel}, ${user}, ${Object.entries(runtimes)
    .map(([name, state]) => `${name} ${state}`)
    .join("; ")}${weaker}`;
  const counts = `${report.passed} held, ${report.failed} breached, ${report.void} void, ${report.open} open, ${report.skipped} skipped`;
  return `${table(["class", ...ATTACK_RESULTS], cells)}\n${inert(where)}\n${counts}\n`;
}
