// The deltas of a server in the form that `diff`, `export`, `commit` and `discard` take them, so that each of them is one command wherever
// the delta lies. Invariant: nothing is decided here.

import type { Client } from "../api/client.ts";
import type { Deltas, KeptDelta } from "../api/corral.ts";
import { everyItem } from "./pages.ts";

export function deltasOf(client: Client): Deltas {
  const delta = (id: string) => client.sandbox(id).delta;
  return {
    list: async () => {
      const kept: KeptDelta[] = [];
      for await (const { codebaseDir = "(on the server)", ...one } of everyItem((page) => client.deltas.list(page)))
        kept.push({ ...one, codebaseDir });
      return kept;
    },
    changes: (id) => delta(id).changes(),
    text: (id, paths) => delta(id).text(paths === undefined ? {} : { paths }),
    export: (id) => delta(id).export(),
    commit: (id, options) => delta(id).commit(options),
    discard: (id) => delta(id).discard(),
  };
}
