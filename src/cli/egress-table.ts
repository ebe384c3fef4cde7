// What a sandbox tried to reach and was refused, as a table, with the call that would allow it. Prints nothing.
// Invariant: what came from inside is inert, and what was not kept is told as a number.

import type { EgressResource } from "../api/network.ts";
import { wordOf } from "./network-words.ts";
import { table } from "./table.ts";

export function egressTable(sandbox: string, items: readonly EgressResource[]): string {
  const rows = items.map((one) => row(sandbox, one));
  const missed = items.reduce((sum, one) => sum + (one.missed ?? 0), 0);
  const told = table(["AT", "HOST", "PORT", "PROGRAM", "TIMES", "WHY", "TO ALLOW IT"], rows);
  return missed === 0 ? told : `${told}and ${missed} more, too many to be kept\n`;
}

function row(sandbox: string, { at, host, port, process, count, outcome, reason, allow }: EgressResource): string[] {
  const word = allow === undefined ? undefined : wordOf(allow);
  const how = word !== undefined ? `corral network ${sandbox} --allow ${word}` : allow === undefined ? "" : JSON.stringify(allow);
  return [at, host ?? "", String(port ?? ""), process ?? "", String(count), reason ?? outcome, how];
}
