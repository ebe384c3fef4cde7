// Tells, once at a start, what runs that were cut off left behind. Invariant: a kept delta is named with the commands that act on it.

import type { Corral } from "../api/corral.ts";
import { tell } from "./tell.ts";
import { formatCount } from "./units.ts";

export function tellReaped({ reaped }: Corral): void {
  if (reaped.objects > 0) tell(`cleared ${formatCount(reaped.objects, "leftover")} of runs that were cut off`);
  for (const { sandboxId, codebaseDir } of reaped.deltas) {
    tell(`a run over ${codebaseDir} was cut off; what it wrote is kept for a day: corral diff ${sandboxId} (or commit, discard)`);
  }
  for (const failure of reaped.failures) tell(failure);
}
