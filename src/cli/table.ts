// Columns of text for people. Invariant: every cell is inert and on one line; widths are counted in characters.

import { inert } from "../base/inert.ts";

/** Lines of left-aligned columns, two spaces between, the last one not padded. Ends with a newline unless there is nothing. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map(inert));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
