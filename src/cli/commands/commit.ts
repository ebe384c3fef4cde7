// `corral commit SB [PATH…]`: accepts a kept delta into the codebase. Invariant: nothing is applied when anything is refused or in
// conflict, unless --partial says so; what was left out is named.

import { type DeltaHolder, deltaId, deltaPaths } from "../delta-id.ts";
import { EXIT_FAILED, EXIT_OK } from "../exit-codes.ts";
import { print } from "../streams.ts";
import { changeLines, coloured, commitLines, committedWords } from "../summary.ts";
import { tell } from "../tell.ts";

export interface CommitCommandOptions {
  readonly json?: boolean;
  readonly partial?: boolean;
  readonly acceptFlagged?: boolean;
}

export async function commit(holder: DeltaHolder, id: string, paths: readonly string[], options: CommitCommandOptions): Promise<number> {
  const sandboxId = await deltaId(holder, id);
  const result = await holder.deltas.commit(sandboxId, {
    partial: options.partial === true,
    acceptFlagged: options.acceptFlagged === true,
    ...(paths.length === 0 ? {} : { paths: deltaPaths(paths) }),
  });
  const left = result.refused.length + result.conflicts.length;
  if (options.json === true) {
    await print(`${JSON.stringify(result)}\n`);
  } else {
    const colour = coloured(process.stdout);
    const lines = [...changeLines(result.committed, [], { colour }), ...commitLines(result, { colour })];
    if (lines.length > 0) await print(`${lines.join("\n")}\n`);
    tell(`accepted ${committedWords(result)}${left === 0 ? "" : `, ${left} not applied`}`);
  }
  // --partial asked for exactly this, so what was left out is a result; without it nothing is left out but by an error.
  return left === 0 || options.partial === true ? EXIT_OK : EXIT_FAILED;
}
