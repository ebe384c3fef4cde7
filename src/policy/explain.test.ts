// What `corral policy explain` says: the verdict, its rule with its place, and who lost.

import { equal, ok } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { Policy } from "../api/policy.ts";
import { explain, explainText, type ExplainOptions } from "./explain.ts";
import { parsePolicy } from "./parse.ts";
import { verdict } from "./verdict.ts";

const TEXT = "read **\n\nnone /secrets\nread /secrets/public/*\n";

function said(path: string, options: ExplainOptions = {}): string {
  const { policy, places } = parsePolicy(TEXT);
  if (policy === undefined) throw new Error("malformed");
  return explainText(explain(policy, path, { places, ...options }), ".corralpolicy");
}

verifies("policy/explain-names-the-rule", "explain prints the verdict and the rule that gave it, with its line", () => {
  equal(
    said("/secrets/key"),
    "/secrets/key (file): none - does not exist for the sandbox\n  by `none /secrets` (.corralpolicy:3)\n  wins over `read **` (.corralpolicy:1)\n",
  );
  ok(said("/secrets/public/a").startsWith("/secrets/public/a (file): read"));
  ok(said("/secrets/").includes("lists only what leads there"));
  ok(said("/secrets/", { leadsToOpen: () => false }).includes("by `none /secrets`"));
  ok(explainText(explain({ rules: [] }, "/a")).includes("no rule matches"));
});

it("a path is read as a person writes it", () => {
  for (const path of ["secrets/key", "./secrets//key", "/workspace/secrets/key", "/a/../secrets/key"])
    ok(said(path).startsWith("/secrets/key (file): none"), path);
  ok(said("/workspace/secrets/key", { hasWorkspaceEntry: true }).startsWith("/workspace/secrets/key (file): read"));
  ok(said("/").startsWith("/ (dir): read"));
});

it("names are printed inert, and the explanation is the verdict's", () => {
  const policy: Policy = { rules: [{ pattern: "é*", permission: "read" }] };
  const explanation = explain(policy, "/é\u001b[31m\n\u202e");
  equal(explanation.path, "/é\\x1b[31m\\n\\u{202e}");
  equal(explanation.permission, verdict(policy, "/\xc3\xa9x", "file").permission);
});
