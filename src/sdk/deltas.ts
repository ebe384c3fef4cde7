// Deltas of a server's sandboxes.

import type { DeltaCalls, KeptDeltaCalls } from "../api/deltas.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";
import { bytes } from "./streams.ts";

export function remoteDelta(http: Http, path: string): DeltaCalls {
  return {
    changes: (options) => http.get(`${path}/delta`, options),
    text: ({ paths, ...options } = {}) => bytes(() => http.ask(`${path}/delta/text${query({ path: paths })}`, options)),
    export: (options) => bytes(() => http.ask(`${path}/delta/export`, options)),
    commit: ({ signal, ...body } = {}) => http.get(`${path}/delta/commit`, { method: "POST", body, signal }),
    discard: async (options) => void (await http.ask(`${path}/delta`, { method: "DELETE", ...options })),
  };
}

export function remoteDeltas(http: Http): KeptDeltaCalls {
  return {
    list: ({ signal, ...words } = {}) => http.get(`/deltas${query({ ...words })}`, { signal }),
  };
}
