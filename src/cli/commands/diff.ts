// `corral diff [SB] [PATH…]`: what a kept delta changed. Without an id, the list of kept deltas.
// Invariant: to a pipe or file go the exact bytes, which `git apply` reads; to a terminal nothing that acts.

import { type DeltaHolder, deltaId, deltaPaths, describeKept } from "../delta-id.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { inert, inertLines } from "../../base/inert.ts";
import { colourDiff } from "../review.ts";
import { print } from "../streams.ts";
import { changeLines, coloured, tally } from "../summary.ts";
import { tell } from "../tell.ts";

export interface DiffOptions {
  readonly json?: boolean;
  readonly stat?: boolean;
}

export async function diff(holder: DeltaHolder, id: string | undefined, paths: readonly string[], options: DiffOptions): Promise<number> {
  if (id === undefined) return await list(holder, options);
  const sandboxId = await deltaId(holder, id);
  if (options.json === true || options.stat === true) return await names(holder, sandboxId, options);
  const text = holder.deltas.text(sandboxId, paths.length === 0 ? undefined : deltaPaths(paths));
  if (process.stdout.isTTY) await toTerminal(text);
  else for await (const chunk of text) await print(chunk);
  return EXIT_OK;
}

async function names(holder: DeltaHolder, sandboxId: string, options: DiffOptions): Promise<number> {
  const { changes, refused } = await holder.deltas.changes(sandboxId);
  if (options.json === true) {
    await print(`${JSON.stringify({ sandboxId, changes, refused })}\n`);
    return EXIT_OK;
  }
  const lines = changeLines(changes, refused, { colour: coloured(process.stdout), maxLines: Infinity });
  await print([...lines, tally(changes, refused), ""].join("\n"));
  return EXIT_OK;
}

async function list(holder: DeltaHolder, options: DiffOptions): Promise<number> {
  const kept = await holder.deltas.list();
  if (options.json === true) await print(`${JSON.stringify(kept)}\n`);
  else if (kept.length === 0) tell("no delta is kept; `corral run --keep` keeps one");
  else await print(kept.map((one) => `${inert(describeKept(one))}\n`).join(""));
  return EXIT_OK;
}

/** Line by line, so that a chunk that ends in the middle of a character or a line is shown whole. */
async function toTerminal(text: AsyncIterable<Uint8Array>): Promise<void> {
  const colour = coloured(process.stdout);
  const decoder = new TextDecoder("utf-8");
  let open = "";
  for await (const chunk of text) {
    const lines = (open + decoder.decode(chunk, { stream: true })).split("\n");
    open = lines.pop() ?? "";
    if (lines.length > 0) await print(colourDiff(`${inertLines(lines.join("\n"))}\n`, colour));
  }
  if (open !== "") await print(`${colourDiff(inertLines(open), colour)}\n`);
}
