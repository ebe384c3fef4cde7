// Secrets, of the client in the server's own process.

import type { SecretCalls } from "../api/secrets.ts";
import { demandWanted } from "../sandbox/wanted.ts";
import type { Token } from "../store/tokens.ts";
import type { Service } from "./service.ts";

export function localSecrets({ secrets }: Service, token: Token): SecretCalls {
  return {
    create: async (body, { signal, idempotencyKey } = {}) => {
      demandWanted(signal);
      return await secrets.create(token, body, idempotencyKey);
    },
    list: async ({ signal, ...request } = {}) => {
      demandWanted(signal);
      return await secrets.list(token, request);
    },
    rotate: async (id, value, { signal } = {}) => {
      demandWanted(signal);
      return await secrets.rotate(token, id, value);
    },
    delete: async (id, { signal } = {}) => {
      demandWanted(signal);
      await secrets.delete(token, id);
    },
  };
}
