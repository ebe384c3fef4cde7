// /v1/tokens: keys are issued, listed and revoked.

import { z } from "zod";
import type { IssueTokenBody } from "../../api/server.ts";
import type { Service } from "../../service/service.ts";
import { noNul, type ZodApp } from "../shapes.ts";

const owner = z.string().regex(/^[A-Za-z0-9._@-]{1,64}$/);
const issueBody = z.strictObject({
  ownerId: owner,
  scope: z.enum(["admin", "user", "sandbox"]),
  sandboxId: z
    .string()
    .regex(/^[a-z0-9]{1,64}$/)
    .optional(),
  name: noNul.min(1).max(128),
  expiresInMs: z
    .int()
    .positive()
    .max(10 * 365 * 24 * 60 * 60 * 1000)
    .optional(),
});

export function tokenRoutes(app: ZodApp, { tokens }: Service): void {
  app.post(
    "/tokens",
    { config: { answers: [201] }, schema: { body: issueBody, tags: ["tokens"], summary: "Issue a key" } },
    async (request, reply) => {
      return reply.code(201).send(await tokens.issue(request.token, request.body as IssueTokenBody));
    },
  );
  const query = z.strictObject({ ownerId: owner.optional() });
  app.get("/tokens", { schema: { querystring: query, tags: ["tokens"], summary: "List an owner's keys" } }, async (request) => {
    return await tokens.list(request.token, request.query.ownerId);
  });
  const params = z.strictObject({ id: z.string().max(64) });
  app.delete("/tokens/:id", { schema: { params, querystring: query, tags: ["tokens"], summary: "Revoke a key" } }, async (request) => {
    return { revoked: await tokens.revoke(request.token, request.params.id, request.query.ownerId) };
  });
}
