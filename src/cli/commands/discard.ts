// `corral discard SB…`: throws kept deltas away. Invariant: every id is checked before the first delta goes.

import { type DeltaHolder, deltaId } from "../delta-id.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { tell } from "../tell.ts";

export async function discard(holder: DeltaHolder, ids: readonly string[]): Promise<number> {
  const found: string[] = [];
  for (const id of ids) found.push(await deltaId(holder, id));
  for (const sandboxId of found) {
    await holder.deltas.discard(sandboxId);
    tell(`discarded ${sandboxId}`);
  }
  return EXIT_OK;
}
