// The network of a sandbox, of the client in the server's own process.

import type { NetworkCalls } from "../api/network.ts";
import { demandWanted } from "../sandbox/wanted.ts";
import type { Token } from "../store/tokens.ts";
import type { Service } from "./service.ts";

export function localNetwork({ networks }: Service, token: Token, id: string): NetworkCalls {
  return {
    get: async ({ signal } = {}) => {
      demandWanted(signal);
      return await networks.get(token, id);
    },
    set: async (policy, { signal } = {}) => {
      demandWanted(signal);
      return await networks.set(token, id, policy);
    },
    egress: async ({ signal, cursor, limit } = {}) => {
      demandWanted(signal);
      const page = { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { after: cursor }) };
      return await networks.egress(token, id, page);
    },
  };
}
