// Secrets of a server.

import type { SecretCalls } from "../api/secrets.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";

export function remoteSecrets(http: Http): SecretCalls {
  const at = (id: string): string => `/secrets/${encodeURIComponent(id)}`;
  return {
    create: (body, { idempotencyKey = crypto.randomUUID(), ...options } = {}) =>
      http.get("/secrets", { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...options }),
    list: ({ signal, ...words } = {}) => http.get(`/secrets${query(words)}`, { signal }),
    rotate: (id, value, options) => http.get(at(id), { method: "PUT", body: { value }, ...options }),
    delete: async (id, options) => void (await http.ask(at(id), { method: "DELETE", ...options })),
  };
}
