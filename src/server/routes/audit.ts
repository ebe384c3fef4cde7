// /v1/audit: who asked for what.

import { z } from "zod";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import type { ZodApp } from "../shapes.ts";

const query = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  cursor: z
    .string()
    .regex(/^\d{1,15}$/)
    .optional(),
  subjectId: z
    .string()
    .regex(/^[a-z0-9]{1,64}$/)
    .optional(),
});

export function auditRoutes(app: ZodApp, { audit }: Service): void {
  app.get("/audit", { schema: { querystring: query, tags: ["audit"], summary: "The audit log, oldest first" } }, async (request) => {
    const { limit, cursor, subjectId } = request.query;
    return await audit.list(request.token, {
      ...(limit === undefined ? {} : { limit }),
      ...(cursor === undefined ? {} : { after: cursor }),
      ...(subjectId === undefined ? {} : { subjectId }),
    });
  });
}
