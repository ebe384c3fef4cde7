// /v1/sandboxes/{id}/network and …/egress: what a sandbox may reach, and what it was refused. Nothing is decided here but shapes.

import { z } from "zod";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import type { NetworkPolicy } from "../../api/network.ts";
import { networkShape } from "../../config/network-shape.ts";
import type { Service } from "../../service/service.ts";
import { sandboxParams as params, type ZodApp } from "../shapes.ts";

const tags = ["network"];

export function networkRoutes(app: ZodApp, { networks }: Service): void {
  app.get("/sandboxes/:id/network", { schema: { params, tags, summary: "What it may reach outside" } }, async (request) => {
    return await networks.get(request.token, request.params.id);
  });
  const body = z.strictObject({ policy: networkShape });
  const summary = "Replace what it may reach, from the next request on";
  app.put("/sandboxes/:id/network", { schema: { params, body, tags, summary } }, async (request) => {
    return await networks.set(request.token, request.params.id, request.body.policy as NetworkPolicy);
  });
  const query = z.strictObject({
    limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
    cursor: z
      .string()
      .regex(/^\d{1,15}$/)
      .optional(),
  });
  const refused = "What it tried to reach and was refused, oldest first, with the rule that would allow it";
  app.get("/sandboxes/:id/egress", { schema: { params, querystring: query, tags, summary: refused } }, async (request) => {
    const { limit, cursor } = request.query;
    const page = { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { after: cursor }) };
    return await networks.egress(request.token, request.params.id, page);
  });
}
