// The deltas of a server in the form that `diff`, `export`, `commit` and `discard` take them, so that each of them is one command wherever
// the delta lies. Invariant: nothing is decided here.

import type { Client } from "../api/client.ts";
import type { Deltas, KeptDelta } from "../api/corral.ts";

export function deltasOf(client: Client): Deltas {
  const delta = (id: string) => client.sandbox(id).delta;
  return {
    list: async () => {
      const kept: KeptDelta[] = [];
      let page = await client.deltas.list();
      for (;;) {
        kept.push(...page.items.map(({ codebaseDir = "(on the server)", ...one }) => ({ ...one, codebaseDir })));
        if (page.next === undefined) return kept;
        page = await client.deltas.list({ cursor: page.next });
      }
    },
    changes: (id) => delta(id).changes(),
    text: (id, paths) => delta(id).text(paths === undefined ? {} : { paths }),
    export: (id) => delta(id).export(),
    commit: (id, options) => delta(id).commit(options),
    discard: (id) => delta(id).discard(),
  };
}
