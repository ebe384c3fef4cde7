// Deltas of a server's sandboxes.

import type { DeltaCalls, KeptDeltaCalls } from "../api/deltas.ts";
import type { Http } from "./http.ts";
import { bytes } from "./streams.ts";

export function remoteDelta(http: Http, path: string): DeltaCalls {
  return {
    changes: (options) => http.get(`${path}/delta`, options),
    text: ({ paths = [], ...options } = {}) => {
      const query = new URLSearchParams(paths.map((name): [string, string] => ["path", name])).toString();
      return bytes(() => http.ask(`${path}/delta/text${query === "" ? "" : `?${query}`}`, options));
    },
    export: (options) => bytes(() => http.ask(`${path}/delta/export`, options)),
    commit: ({ signal, ...body } = {}) =>
      http.get(`${path}/delta/commit`, { method: "POST", body, ...(signal === undefined ? {} : { signal }) }),
    discard: async (options) => void (await http.ask(`${path}/delta`, { method: "DELETE", ...options })),
  };
}

export function remoteDeltas(http: Http): KeptDeltaCalls {
  return {
    list: ({ signal, ...rest } = {}) => {
      const query = new URLSearchParams(Object.entries(rest).map(([name, value]): [string, string] => [name, String(value)]));
      return http.get(`/deltas?${query.toString()}`, signal === undefined ? {} : { signal });
    },
  };
}
