// /v1/secrets: values go in, names come out. Nothing is decided here but the shape of what comes in.

import { z } from "zod";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import { idempotent as headers, noNul, type ZodApp } from "../shapes.ts";

const tags = ["secrets"];
const params = z.strictObject({ id: z.string().max(64) });
const value = z.string().max(8_192);
const query = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  cursor: z.string().max(64).optional(),
});

export function secretRoutes(app: ZodApp, { secrets }: Service): void {
  const body = z.strictObject({ name: noNul.min(1).max(128), value });
  app.post(
    "/secrets",
    { config: { answers: [201] }, schema: { body, headers, tags, summary: "Set a secret that has none of its name yet" } },
    async (request, reply) => reply.code(201).send(await secrets.create(request.token, request.body, request.headers["idempotency-key"])),
  );
  app.get("/secrets", { schema: { querystring: query, tags, summary: "List secrets, newest first, without values" } }, async (request) => {
    const { limit, cursor } = request.query;
    return await secrets.list(request.token, { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) });
  });
  const valueBody = z.strictObject({ value });
  app.put("/secrets/:id", { schema: { params, body: valueBody, tags, summary: "Another value, from now on" } }, async (request) => {
    return await secrets.rotate(request.token, request.params.id, request.body.value);
  });
  app.delete("/secrets/:id", { schema: { params, tags, summary: "Delete a secret" } }, async (request) => {
    await secrets.delete(request.token, request.params.id);
    return { deleted: true };
  });
}
