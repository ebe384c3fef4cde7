// The network of a sandbox of a server.

import type { NetworkCalls } from "../api/network.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";

/** `path`: of the sandbox. */
export function remoteNetwork(http: Http, path: string): NetworkCalls {
  return {
    get: (options) => http.get(`${path}/network`, options),
    set: (policy, options) => http.get(`${path}/network`, { method: "PUT", body: { policy }, ...options }),
    egress: ({ signal, ...words } = {}) => http.get(`${path}/egress${query(words)}`, { signal }),
  };
}
