// The catalogue: every row, what of it can be tried today, and how a row is judged. One list, so that a door or a runtime cannot be forgotten.
// Invariant: an attempt and its control throw; what they threw becomes a result in judge.ts alone.

import { strict as assert } from "node:assert";
import type { Bed, CallRow, SecurityRow } from "./row.ts";
import { isCallRow } from "./row.ts";
import { CODEBASE_STORIES } from "./rows/codebase-stories.ts";
import { CONTROL_STORIES } from "./rows/control-stories.ts";
import { DOOR_STORIES } from "./rows/door-stories.ts";
import { EGRESS_INSIDE } from "./rows/egress-inside.ts";
import { EGRESS_RULES } from "./rows/egress-rules.ts";
import { EGRESS_SECRETS } from "./rows/egress-secrets.ts";
import { EGRESS_WIRE } from "./rows/egress-wire.ts";
import { FILE_STORIES } from "./rows/file-stories.ts";
import { INTERPRETER_STORIES } from "./rows/interpreter-stories.ts";
import { KERNEL_ROWS } from "./rows/kernel.ts";
import { NETWORK_STORIES } from "./rows/network-stories.ts";
import { PROCESS_ROWS } from "./rows/process.ts";
import { PROCESS_STORIES } from "./rows/process-stories.ts";
import { RESOURCE_STORIES } from "./rows/resource-stories.ts";
import { attempt } from "./say.ts";

export const CATALOGUE: readonly SecurityRow[] = [
  ...DOOR_STORIES,
  ...RESOURCE_STORIES,
  ...PROCESS_ROWS,
  ...PROCESS_STORIES,
  ...KERNEL_ROWS,
  ...FILE_STORIES,
  ...CODEBASE_STORIES,
  ...CONTROL_STORIES,
  ...NETWORK_STORIES,
  ...INTERPRETER_STORIES,
  ...EGRESS_RULES,
  ...EGRESS_WIRE,
  ...EGRESS_SECRETS,
  ...EGRESS_INSIDE,
];

/** The inside half. Throws when the attempt reached something, naming it. Returns the distinct answers of a list of calls. */
export async function demandHeld(row: SecurityRow, bed: Bed): Promise<readonly string[] | undefined> {
  if (!isCallRow(row)) {
    await row.attempt(bed);
    return undefined;
  }
  await using sandbox = await bed.open();
  const result = await sandbox.exec({ command: [attempt("calls"), ...Object.keys(row.calls)], timeoutMs: 60_000 });
  const answers = parse(new TextDecoder().decode(result.stdout));
  for (const [word, holds] of Object.entries(row.calls)) {
    const answer = answers.get(word);
    assert.ok(answer !== undefined && holds.includes(answer), `${word} answered ${answer ?? "nothing"}, must be ${holds.join(" or ")}`);
  }
  return [...new Set(answers.values())].sort();
}

/** The control. Throws when the attempt does not work unprotected either, so that the row proves nothing here. */
export async function demandControl(row: SecurityRow, bed: Bed): Promise<void> {
  if (!isCallRow(row)) return await row.control.prove(bed);
  for (const word of controlWords(row)) {
    // One process each: a call that succeeds (a new root, say) must not spoil the next.
    const outside = await bed.outside([bed.program("calls"), word]);
    const answer = parse(outside.stdout).get(word);
    const holds: readonly string[] = row.calls[word] ?? [];
    assert.ok(
      answer !== undefined && !holds.includes(answer),
      `${word} answers ${answer ?? `nothing (${outside.stderr.trim().split("\n")[0] ?? ""})`} outside too: this row proves nothing here`,
    );
  }
}

/** The words of a row whose answer outside must differ. A row whose control is to be accepted proves itself inside. */
function controlWords(row: CallRow): readonly string[] {
  return row.control.words ?? Object.keys(row.calls);
}

function parse(text: string): Map<string, string> {
  return new Map(
    text.split("\n").flatMap((line) => {
      const at = line.lastIndexOf(" ");
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const];
    }),
  );
}
