// The audit log of a server.

import type { AuditCalls } from "../api/audit.ts";
import type { Http } from "./http.ts";

export function remoteAudit(http: Http): AuditCalls {
  return {
    list: ({ signal, ...rest } = {}) => {
      const query = new URLSearchParams(Object.entries(rest).map(([name, value]): [string, string] => [name, String(value)]));
      return http.get(`/audit?${query.toString()}`, signal === undefined ? {} : { signal });
    },
  };
}
