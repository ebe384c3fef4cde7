// The audit log of a server.

import type { AuditCalls } from "../api/audit.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";

export function remoteAudit(http: Http): AuditCalls {
  return {
    list: ({ signal, ...words } = {}) => http.get(`/audit${query({ ...words })}`, { signal }),
  };
}
