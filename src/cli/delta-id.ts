// Finds the kept delta that a person means: its id, or the beginning of it. Invariant: a beginning that fits two is refused.

import type { Deltas, KeptDelta } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";

/** The local client, or a server's deltas in its form. */
export interface DeltaHolder {
  readonly deltas: Deltas;
}

/** Fewer characters than this name nothing: `s` would fit every id. */
const MIN_PREFIX = 4;

export async function deltaId(holder: DeltaHolder, text: string): Promise<string> {
  // Not looked up in the list: the delta of a sandbox that still runs is not kept yet.
  if (isId("sandbox", text)) return text;
  const fitting = text.length < MIN_PREFIX ? [] : (await holder.deltas.list()).filter(({ sandboxId }) => sandboxId.startsWith(text));
  const [first, second] = fitting;
  if (first === undefined)
    throw new CorralError("delta_not_found", `there is no kept delta ${JSON.stringify(text)}; \`corral diff\` lists them`);
  if (second !== undefined)
    throw new CorralError("request_invalid", `${JSON.stringify(text)} fits ${fitting.length} deltas; give more of the id`);
  return first.sandboxId;
}

/** Paths as deltas spell them: absolute in the codebase. */
export function deltaPaths(paths: readonly string[]): readonly string[] {
  return paths.map((path) => (path.startsWith("/") ? path : `/${path.replace(/^(\.\/)+/, "")}`));
}

export function describeKept(kept: KeptDelta): string {
  return `${kept.sandboxId}  ${kept.createdAt}  ${kept.codebaseDir}${kept.cutOff ? "  (cut off)" : ""}`;
}
