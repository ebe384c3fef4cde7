// Questions about policies to a server.

import type { PolicyCalls } from "../api/policies.ts";
import type { Http } from "./http.ts";

export function remotePolicies(http: Http): PolicyCalls {
  return {
    check: (text, { signal, format } = {}) => http.get("/policies/check", { method: "POST", body: { text, format }, signal }),
    explain: (policy, path, { signal, kind } = {}) =>
      http.get("/policies/explain", { method: "POST", body: { policy, path, kind }, signal }),
  };
}
