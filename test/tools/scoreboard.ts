// `./corral scoreboard FILE…` writes docs/scoreboard.md from what `corral doctor --attack --json` printed, on one machine or several;
// with --print it prints the page instead.
// Invariant: every row of every file is in the page, in a count and by its id; what is not held stands there with its reason.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ATTACK_CLASSES, ATTACK_RESULTS, type AttackReport, type AttackRow } from "../../src/api/attack.ts";
import { ROOT } from "./tree.ts";

interface Seen {
  readonly column: string;
  readonly row: AttackRow;
}

/** The whole page. */
export function scoreboard(reports: readonly AttackReport[]): string {
  const seen = reports.flatMap(({ machine, rows }, index) =>
    // What is of no runtime is the same on every machine.
    rows.filter(({ runtime }) => runtime !== "server" || index === 0).map((row) => ({ column: columnOf(row, machine.user), row })),
  );
  const columns = [...new Set(seen.map(({ column }) => column))];
  return `# Scoreboard

Generated from \`./corral doctor --attack --json\` by \`./corral scoreboard\`; never edited. What the results mean stands in [security.md](security.md).
A cell counts ${ATTACK_RESULTS.join(" / ")}.

${machines(reports)}

## By class

${table(
  ["class", ...columns],
  ATTACK_CLASSES.flatMap((name) => classLine(name, columns, seen)),
)}

## Not held

${table(["result", "why", "where", "rows"], notHeld(columns, seen))}

## Held everywhere it was tried

${held(seen)}
`;
}

function columnOf(row: AttackRow, user: string): string {
  return row.runtime === "server" ? "server" : `${row.runtime}, ${user}`;
}

function machines(reports: readonly AttackReport[]): string {
  const lines = reports.map(({ machine: { user, kernel, arch, distro, guest, date, weakenings } }) => {
    const weaker = weakenings.length === 0 ? "no wall missing" : `missing walls: ${weakenings.join(", ")}`;
    return `- ${user}: Linux ${kernel}, ${arch}, ${distro}; ${weaker}; guest ${guest.slice(0, 12)}, ${date.slice(0, 10)}`;
  });
  return lines.join("\n");
}

function classLine(name: string, columns: readonly string[], seen: readonly Seen[]): string[][] {
  const rows = seen.filter(({ row }) => row.class === name);
  if (rows.length === 0) return [];
  const cell = (column: string): string => {
    const here = rows.filter((one) => one.column === column);
    return here.length === 0 ? "" : ATTACK_RESULTS.map((result) => here.filter(({ row }) => row.result === result).length).join(" / ");
  };
  return [[name, ...columns.map(cell)]];
}

/** One line for the rows that have the same result for the same reason in the same places. */
function notHeld(columns: readonly string[], seen: readonly Seen[]): string[][] {
  const lines = new Map<string, { readonly row: AttackRow; readonly ids: string[]; readonly where: string }>();
  for (const id of new Set(seen.map(({ row }) => row.id))) {
    const rows = seen.filter(({ row }) => row.id === id && row.result !== "held");
    for (const reason of new Set(rows.map(({ row }) => row.reason))) {
      const same = rows.filter(({ row }) => row.reason === reason);
      const [first] = same;
      if (first === undefined) continue;
      const where = places(
        columns,
        same.map(({ column }) => column),
      );
      const key = [first.row.result, reason, where].join("\0");
      const line = lines.get(key) ?? { row: first.row, ids: [], where };
      line.ids.push(`\`${id}\``);
      lines.set(key, line);
    }
  }
  return [...lines.values()]
    .sort((a, b) => ATTACK_RESULTS.indexOf(a.row.result) - ATTACK_RESULTS.indexOf(b.row.result))
    .map(({ row, ids, where }) => [row.result, row.reason ?? "", where, ids.join(", ")]);
}

function places(columns: readonly string[], here: readonly string[]): string {
  return columns.every((column) => column === "server" || here.includes(column)) ? "everywhere" : here.join("; ");
}

function held(seen: readonly Seen[]): string {
  const tried = seen.filter(({ row }) => row.result !== "skipped");
  const lost = new Set(tried.filter(({ row }) => row.result !== "held").map(({ row }) => row.id));
  const lines = ATTACK_CLASSES.flatMap((name) => {
    const ids = [...new Set(tried.filter(({ row }) => row.class === name && !lost.has(row.id)).map(({ row }) => row.id))];
    return ids.length === 0 ? [] : [`- ${name}: ${ids.map((id) => `\`${id}\``).join(", ")}`];
  });
  return lines.join("\n");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  const files = words.filter((word) => word !== "--print");
  if (files.length === 0) throw new Error("usage: ./corral scoreboard [--print] FILE… (each what `corral doctor --attack --json` printed)");
  const page = scoreboard(files.map((file) => JSON.parse(readFileSync(file, "utf8")) as AttackReport));
  if (words.includes("--print")) process.stdout.write(page);
  else writeFileSync(join(ROOT, "docs", "scoreboard.md"), page);
}
