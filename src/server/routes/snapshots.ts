// /v1/snapshots and what makes, restores and forks below /v1/sandboxes. Nothing is decided here but the shape of what comes in.
// Invariant: what a schema lets through has the types of api/; unknown fields are refused, so that a misspelled one is told.

import { z } from "zod";
import { MAX_BATCH, MAX_PAGE_ITEMS, MAX_PUBLIC_PORTS } from "../../api/limits.ts";
import type { ForkBody, TakeSnapshotBody } from "../../api/snapshots.ts";
import type { Service } from "../../service/service.ts";
import { env, idempotent as headers, limits, ms, noNul, pairs, port, sandboxParams as params, type ZodApp } from "../shapes.ts";

const takeBody = z.strictObject({ name: noNul.max(256).optional(), metadata: pairs.optional() });
const restoreBody = z.strictObject({ snapshotId: z.string().max(64) });
const forkBody = z.strictObject({
  count: z.int().min(1).max(MAX_BATCH).optional(),
  env: env.optional(),
  limits: limits.optional(),
  metadata: pairs.optional(),
  publicPorts: z.array(port).max(MAX_PUBLIC_PORTS).optional(),
  timeoutMs: ms.nullable().optional(),
  onTimeout: z.enum(["kill", "pause"]).optional(),
});
const listQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  cursor: z.string().max(64).optional(),
  sandboxId: z.string().max(64).optional(),
  name: noNul.max(256).optional(),
});
const tags = ["snapshots"];

export function snapshotRoutes(app: ZodApp, { snapshots }: Service): void {
  const take = "Take a snapshot of its files; one that runs stands still meanwhile";
  app.post(
    "/sandboxes/:id/snapshots",
    { config: { answers: [201] }, schema: { params, body: takeBody, headers, tags, summary: take } },
    async (request, reply) => {
      const { id } = request.params;
      const taken = await snapshots.take(request.token, id, request.body as TakeSnapshotBody, request.headers["idempotency-key"]);
      return reply.code(201).send(taken);
    },
  );
  const restore = "Give it back the files of one of its snapshots; its processes end";
  app.post("/sandboxes/:id/restore", { schema: { params, body: restoreBody, tags, summary: restore } }, async (request) => {
    return await snapshots.restore(request.token, request.params.id, request.body.snapshotId);
  });
  const fork = "Make sandboxes that begin with its files; each item is a sandbox or its error";
  app.post("/sandboxes/:id/fork", { schema: { params, body: forkBody, headers, tags, summary: fork } }, async (request) => {
    const { id } = request.params;
    return { items: await snapshots.fork(request.token, id, request.body as ForkBody, request.headers["idempotency-key"]) };
  });
  app.get("/snapshots", { schema: { querystring: listQuery, tags, summary: "List snapshots, newest first" } }, async (request) => {
    const { limit, cursor, sandboxId, name } = request.query;
    return await snapshots.list(request.token, {
      ...(limit === undefined ? {} : { limit }),
      ...(cursor === undefined ? {} : { cursor }),
      ...(sandboxId === undefined ? {} : { sandboxId }),
      ...(name === undefined ? {} : { name }),
    });
  });
  app.get("/snapshots/:id", { schema: { params, tags, summary: "One snapshot" } }, async (request) => {
    return await snapshots.get(request.token, request.params.id);
  });
  app.delete("/snapshots/:id", { schema: { params, tags, summary: "Delete a snapshot that no sandbox stands on" } }, async (request) => {
    await snapshots.delete(request.token, request.params.id);
    return { deleted: true };
  });
}
