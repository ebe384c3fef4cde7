// The canon of a session, as its version was kept: read from the store once, compiled once for each set of variables. Not a watcher.
// Invariant: a version never changes, so neither does what is kept of it here; what is kept is bounded.

import { CorralError } from "../../api/errors.ts";
import type { LoomTables } from "../../store/loom.ts";
import { canonText, compileCanon } from "./compile.ts";
import type { CanonValue } from "./expression.ts";

const KEPT = 64;

export class PinnedCanons {
  readonly #texts = new Map<string, string>();

  /** As a model reads it. Throws `canon_invalid`, `internal`. */
  async text(
    { worlds, blobs }: Pick<LoomTables, "worlds" | "blobs">,
    canonId: string,
    vars: Readonly<Record<string, CanonValue>>,
  ): Promise<string> {
    const key = `${canonId}\0${JSON.stringify(vars)}`;
    const held = this.#texts.get(key);
    if (held !== undefined) return held;
    const canon = await worlds.canon(canonId);
    if (canon === undefined) throw new CorralError("internal", `the canon ${canonId} is not in the store`);
    const texts = await blobs.many(canon.worldId, Object.values(canon.files));
    const files = new Map(Object.entries(canon.files).map(([path, hash]) => [path, texts.get(hash) ?? ""]));
    const compiled = compileCanon({ files, vars: new Map(Object.entries(vars)) });
    if (!compiled.usable)
      throw new CorralError("canon_invalid", `version ${canon.n} of the canon has errors with the variables of this session; lint it`, {
        details: { problems: compiled.problems },
      });
    const text = canonText(compiled);
    const oldest = this.#texts.keys().next();
    if (this.#texts.size >= KEPT && oldest.done !== true) this.#texts.delete(oldest.value);
    this.#texts.set(key, text);
    return text;
  }
}
