// Templates as the local client tells them: each call is the service's. Invariant: it has no call that the SDK lacks.

import type { TemplateCalls } from "../api/templates.ts";
import type { Token } from "../store/tokens.ts";
import { demandWanted } from "../sandbox/wanted.ts";
import type { Service } from "./service.ts";

export function localTemplates({ templates }: Service, token: Token): TemplateCalls {
  return {
    create: async (body, { signal, idempotencyKey } = {}) => {
      demandWanted(signal);
      return await templates.create(token, body, idempotencyKey);
    },
    get: (id) => templates.get(token, id),
    list: ({ signal: _, ...page } = {}) => templates.list(token, page),
    importTar: async (id, tar, { signal } = {}) => {
      demandWanted(signal);
      return await templates.importTar(token, id, one(tar));
    },
    delete: (id) => templates.delete(token, id),
  };
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
