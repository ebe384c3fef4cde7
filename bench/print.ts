// How benches speak to a person: a progress line on stderr, one line per row on stdout.

import type { Writable } from "node:stream";
import type { Row } from "./bench.ts";

export interface ProgressLine {
  show(id: string, step: string, done: number, total: number): void;
  clear(): void;
}

const BAR_CELLS = 24;

/** A line that rewrites itself on a terminal, and says each new step once elsewhere. */
export function progressLine(stream: (Writable & { isTTY?: boolean }) | undefined): ProgressLine {
  let last = "";
  return {
    show(id, step, done, total) {
      if (stream === undefined) return;
      if (stream.isTTY === true) {
        const cells = Math.round((done / Math.max(1, total)) * BAR_CELLS);
        stream.write(`\r\x1b[K${id} ${"█".repeat(cells)}${"░".repeat(BAR_CELLS - cells)} ${step}`);
      } else if (step !== last) {
        last = step;
        stream.write(`${id}: ${step}\n`);
      }
    },
    clear() {
      if (stream?.isTTY === true) stream.write("\r\x1b[K");
    },
  };
}

/** Three significant digits; whole numbers from 1,000 on. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "-";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

export function printTable(rows: readonly Row[], stream: Writable, title?: string): void {
  if (title !== undefined) stream.write(`\n${title}\n`);
  for (const row of rows) {
    const against = row.against === undefined || row.ratio === undefined ? "" : ` · ${figure(row.ratio)}x ${row.against}`;
    const verdict = row.met === null ? "told" : row.met ? "met" : "MISSED";
    stream.write(
      `  ${`${row.id} ${row.metric}`.padEnd(44)} p50 ${figure(row.p50)} p95 ${figure(row.p95)} p99 ${figure(row.p99)} ${row.unit} (n ${row.n})${against} · ${row.target}: ${verdict}${row.note === undefined ? "" : ` · ${row.note}`}\n`,
    );
  }
}
