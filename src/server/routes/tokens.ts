// /v1/tokens: keys are issued, listed and revoked. Invariant: only a key of scope admin issues keys or acts for another owner; a secret
// is in one answer, that of its issue.

import { z } from "zod";
import { CorralError } from "../../api/errors.ts";
import { isId } from "../../api/ids.ts";
import type { TokenResource } from "../../api/server.ts";
import type { Clock } from "../../base/clock.ts";
import type { Store } from "../../store/store.ts";
import type { Token } from "../../store/tokens.ts";
import { noNul, type ZodApp } from "./sandboxes.ts";

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

export function tokenRoutes(app: ZodApp, { store, clock }: { readonly store: Store; readonly clock: Clock }): void {
  app.post("/tokens", { schema: { body: issueBody, tags: ["tokens"], summary: "Issue a key" } }, async (request, reply) => {
    demandAdmin(request.token);
    const { ownerId, scope, name, sandboxId, expiresInMs } = request.body;
    const now = clock.wallMs();
    const { token, secret } = await store.tokens.issue({
      ownerId,
      scope,
      name,
      now,
      ...(sandboxId === undefined ? {} : { sandboxId }),
      ...(expiresInMs === undefined ? {} : { expiresAt: now + expiresInMs }),
    });
    return reply.code(201).send({ ...resource(token), secret });
  });
  const query = z.strictObject({ ownerId: owner.optional() });
  app.get("/tokens", { schema: { querystring: query, tags: ["tokens"], summary: "List an owner's keys" } }, async (request) => {
    const tokens = await store.tokens.list(whose(request.token, request.query.ownerId));
    return { items: tokens.map(resource) };
  });
  const params = z.strictObject({ id: z.string().max(64) });
  app.delete("/tokens/:id", { schema: { params, querystring: query, tags: ["tokens"], summary: "Revoke a key" } }, async (request) => {
    const ownerId = whose(request.token, request.query.ownerId);
    const { id } = request.params;
    return { revoked: isId("token", id) && (await store.tokens.revoke(ownerId, id, clock.wallMs())) };
  });
}

function demandAdmin({ scope }: Token): void {
  if (scope !== "admin") throw new CorralError("forbidden", "keys are issued by a key of scope admin");
}

function whose(token: Token, ownerId: string = token.ownerId): string {
  if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox sees no keys");
  if (ownerId !== token.ownerId) demandAdmin(token);
  return ownerId;
}

function resource({ createdAt, expiresAt, ...rest }: Token): TokenResource {
  const until = expiresAt === null ? null : new Date(expiresAt).toISOString();
  return { ...rest, createdAt: new Date(createdAt).toISOString(), expiresAt: until };
}
