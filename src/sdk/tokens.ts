// Keys of a server.

import type { TokenCalls } from "../api/client.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";

export function remoteTokens(http: Http): TokenCalls {
  return {
    issue: (body, options) => http.get("/tokens", { method: "POST", body, ...options }),
    list: ({ ownerId, ...options } = {}) => http.get(`/tokens${query({ ownerId })}`, options),
    revoke: async (id, { ownerId, ...options } = {}) => {
      const path = `/tokens/${encodeURIComponent(id)}${query({ ownerId })}`;
      return (await http.get<{ revoked: boolean }>(path, { method: "DELETE", ...options })).revoked;
    },
  };
}
