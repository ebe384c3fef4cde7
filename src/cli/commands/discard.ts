// `corral discard SB…`: throws kept deltas away. Invariant: every id is checked before the first delta goes.

import type { Corral } from "../../api/corral.ts";
import { deltaId } from "../delta-id.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { tell } from "../tell.ts";

export async function discard(corral: Corral, ids: readonly string[]): Promise<number> {
  const found: string[] = [];
  for (const id of ids) found.push(await deltaId(corral, id));
  for (const sandboxId of found) {
    await corral.deltas.discard(sandboxId);
    tell(`discarded ${sandboxId}`);
  }
  return EXIT_OK;
}
