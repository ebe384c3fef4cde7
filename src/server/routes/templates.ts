// /v1/templates: root file systems that sandboxes are made from. Nothing is decided here but the shape of what comes in.

import { z } from "zod";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import { type CreateTemplateBody, DEBOOTSTRAP_VARIANTS } from "../../api/templates.ts";
import type { Service } from "../../service/service.ts";
import { takeRawBodies } from "../raw-body.ts";
import { env, limits, noNul, policy, type ZodApp } from "../shapes.ts";

const tags = ["templates"];
const params = z.strictObject({ id: z.string().max(64) });
const debootstrap = z.strictObject({
  suite: z.string().min(1).max(64),
  variant: z.enum(DEBOOTSTRAP_VARIANTS).optional(),
  include: z.array(z.string().min(1).max(128)).max(256).optional(),
});
const from = z.union([
  z.strictObject({ codebase: z.strictObject({ id: z.string().max(64), version: z.int().min(1).optional() }) }),
  z.strictObject({ dir: noNul.min(1) }),
  z.strictObject({ debootstrap }),
]);
const createBody = z.strictObject({
  name: noNul.min(1).max(256),
  from: from.optional(),
  defaults: z.strictObject({ limits: limits.optional(), policy: policy.optional(), env: env.optional() }).optional(),
  shared: z.boolean().optional(),
});

export function templateRoutes(app: ZodApp, service: Service): void {
  void app.register((scope, _options, done) => {
    takeRawBodies(scope);
    routes(scope, service);
    done();
  });
}

function routes(app: ZodApp, { templates }: Service): void {
  const headers = z.object({ "idempotency-key": z.string().min(1).max(255).optional() });
  app.post(
    "/templates",
    { config: { answers: [201] }, schema: { body: createBody, headers, tags, summary: "Make a template" } },
    async (request, reply) => {
      const made = await templates.create(request.token, request.body as CreateTemplateBody, request.headers["idempotency-key"]);
      return reply.code(201).send(made);
    },
  );
  const query = z.strictObject({
    limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
    cursor: z.string().max(64).optional(),
  });
  app.get("/templates", { schema: { querystring: query, tags, summary: "List templates, newest first, host last" } }, async (request) => {
    const { limit, cursor } = request.query;
    return await templates.list(request.token, { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) });
  });
  app.get(
    "/templates/:id",
    { schema: { params, tags, summary: "One template, with the progress of what is being built" } },
    async (request) => {
      return await templates.get(request.token, request.params.id);
    },
  );
  app.put(
    "/templates/:id/tar",
    { schema: { params, tags, summary: "The root of an empty template: plain, gzip or zstd" } },
    async (request) => {
      return await templates.importTar(request.token, request.params.id, request.raw);
    },
  );
  app.delete("/templates/:id", { schema: { params, tags, summary: "Delete a template that nothing stands on" } }, async (request) => {
    await templates.delete(request.token, request.params.id);
    return { deleted: true };
  });
}
