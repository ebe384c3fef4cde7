// Snapshots as the local client tells them: each call is the service's. Invariant: it has no call that the SDK lacks.

import type { SnapshotCalls } from "../api/snapshots.ts";
import { demandWanted } from "../sandbox/wanted.ts";
import type { Token } from "../store/tokens.ts";
import type { Service } from "./service.ts";

export function localSnapshots({ snapshots }: Service, token: Token): SnapshotCalls {
  return {
    get: (id) => snapshots.get(token, id),
    list: async ({ signal, ...request } = {}) => {
      demandWanted(signal);
      return await snapshots.list(token, request);
    },
    delete: async (id, { signal } = {}) => {
      demandWanted(signal);
      await snapshots.delete(token, id);
    },
  };
}
