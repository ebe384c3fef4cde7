// Templates of a server.

import type { TemplateCalls } from "../api/templates.ts";
import type { Http } from "./http.ts";

export function remoteTemplates(http: Http): TemplateCalls {
  const place = (id: string): string => `/templates/${encodeURIComponent(id)}`;
  return {
    create: (body, { idempotencyKey = crypto.randomUUID(), ...call } = {}) =>
      http.get("/templates", { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...call }),
    get: (id, call) => http.get(place(id), call),
    list: ({ signal, ...page } = {}) => {
      const query = new URLSearchParams(Object.entries(page).map(([name, value]): [string, string] => [name, String(value)]));
      return http.get(`/templates?${query.toString()}`, signal === undefined ? {} : { signal });
    },
    importTar: (id, raw, call) => http.get(`${place(id)}/tar`, { method: "PUT", raw, ...call }),
    delete: async (id, call) => void (await http.ask(place(id), { method: "DELETE", ...call })),
  };
}
