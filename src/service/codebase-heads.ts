// The versions of codebases as src/codebases asks for them, out of the database. Invariant: a version is added over the one that was
// expected, or not at all.

import type { Clock } from "../base/clock.ts";
import type { Heads } from "../codebases/stored.ts";
import type { Store } from "../store/store.ts";

export function codebaseHeads({ store, clock }: { readonly store: Store; readonly clock: Clock }): Heads {
  return {
    current: async (id) => (await store.codebases.get(id))?.current,
    add: async (id, { expected, tree, source }) => {
      const { hash: root, bytes, files, entries } = tree;
      const version = { root, bytes, files, entries, source };
      const added = await store.transaction(({ codebases }) => codebases.addVersion({ id, expected, version, now: clock.wallMs() }));
      return added !== undefined;
    },
  };
}
