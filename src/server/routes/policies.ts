// /v1/policies and the policy of one sandbox: what a text says, and what rules say of a path. Nothing is judged here.

import { z } from "zod";
import { MAX_PATH_BYTES, MAX_POLICY_TEXT_BYTES } from "../../api/limits.ts";
import type { Policy } from "../../api/policy.ts";
import type { Service } from "../../service/service.ts";
import { noNul, policy, sandboxParams as params, type ZodApp } from "../shapes.ts";

const tags = ["policies"];
const kind = z.enum(["file", "dir", "link", "other"]).optional();
const path = noNul.min(1).max(MAX_PATH_BYTES);
const bytes = (value: string): boolean => Buffer.byteLength(value) <= MAX_POLICY_TEXT_BYTES;
const checkBody = z.strictObject({
  text: z.string().refine(bytes, `longer than ${MAX_POLICY_TEXT_BYTES} bytes`),
  format: z.enum(["lines", "yaml", "json"]).optional(),
});
const explainBody = z.strictObject({ policy, path, kind });
const explainQuery = z.strictObject({ path, kind });

export function policyRoutes(app: ZodApp, { policies }: Service): void {
  const check = "Errors and warnings of the text of a policy file, and its rules as a create takes them";
  app.post("/policies/check", { schema: { body: checkBody, tags, summary: check } }, async (request) => {
    const { text, format } = request.body;
    return await policies.check(request.token, text, format === undefined ? {} : { format });
  });
  const explain = "What a preset or rules say of a path, and which rule says so";
  app.post("/policies/explain", { schema: { body: explainBody, tags, summary: explain } }, async (request) => {
    const { policy: rules, ...about } = request.body;
    return await policies.explain(request.token, rules as string | Pick<Policy, "rules">, asked(about));
  });
  const own = "What the policy of a sandbox says of a path of its codebase, and which rule says so";
  app.get("/sandboxes/:id/explain", { schema: { params, querystring: explainQuery, tags, summary: own } }, async (request) => {
    return await policies.explainOf(request.token, request.params.id, asked(request.query));
  });
}

type Asked = z.infer<typeof explainQuery>;

function asked({ path: where, kind: what }: Asked): { readonly path: string; readonly kind?: NonNullable<Asked["kind"]> } {
  return { path: where, ...(what === undefined ? {} : { kind: what }) };
}
