// `corral export SB`: the changed entries of a delta as a tar on stdout. Invariant: exact bytes, and never to a terminal, on which what
// a sandbox wrote would act.

import { CorralError } from "../../api/errors.ts";
import { type DeltaHolder, deltaId } from "../delta-id.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { print } from "../streams.ts";

export async function exportDelta(holder: DeltaHolder, id: string): Promise<number> {
  if (process.stdout.isTTY)
    throw new CorralError("request_invalid", "a tar is no text: send it to a file or a pipe (corral export SB > changes.tar)");
  for await (const chunk of holder.deltas.export(await deltaId(holder, id))) await print(chunk);
  return EXIT_OK;
}
