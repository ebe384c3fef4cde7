// Snapshots of a server.

import type { SnapshotCalls } from "../api/snapshots.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";

export function remoteSnapshots(http: Http): SnapshotCalls {
  const place = (id: string): string => `/snapshots/${encodeURIComponent(id)}`;
  return {
    get: (id, call) => http.get(place(id), call),
    list: ({ signal, ...words } = {}) => http.get(`/snapshots${query(words)}`, { signal }),
    delete: async (id, call) => void (await http.ask(place(id), { method: "DELETE", ...call })),
  };
}
