// Keys of a server.

import type { TokenCalls } from "../api/client.ts";
import type { Http } from "./http.ts";

export function remoteTokens(http: Http): TokenCalls {
  return {
    issue: (body, options) => http.get("/tokens", { method: "POST", body, ...options }),
    list: ({ ownerId, ...options } = {}) => http.get(`/tokens${ownerQuery(ownerId)}`, options),
    revoke: async (id, { ownerId, ...options } = {}) => {
      const path = `/tokens/${encodeURIComponent(id)}${ownerQuery(ownerId)}`;
      return (await http.get<{ revoked: boolean }>(path, { method: "DELETE", ...options })).revoked;
    },
  };
}

function ownerQuery(ownerId: string | undefined): string {
  return ownerId === undefined ? "" : `?ownerId=${encodeURIComponent(ownerId)}`;
}
