// /v1/sandboxes/{id}/delta and /v1/deltas: what a sandbox changed, read, committed, discarded. Bytes of a delta are hostile: they go out
// as bytes, never as something that a browser would show. Invariant: an error before the first byte is an answer like any other; one
// after it cuts the connection, so that nobody takes a part for the whole.

import { z } from "zod";
import type { CommitOptions } from "../../api/corral.ts";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import { sendBytes } from "../bytes.ts";
import { noNul, sandboxParams as params, type ZodApp } from "../shapes.ts";

const commitBody = z.strictObject({
  partial: z.boolean().optional(),
  acceptFlagged: z.boolean().optional(),
  paths: z.array(noNul.min(1)).min(1).max(10_000).optional(),
});
const listQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  cursor: z.string().max(64).optional(),
});
/** Repeated for several. */
const textQuery = z.strictObject({ path: z.union([noNul.min(1), z.array(noNul.min(1)).max(256)]).optional() });
const tags = ["deltas"];

export function deltaRoutes(app: ZodApp, { deltas }: Service): void {
  app.get("/deltas", { schema: { querystring: listQuery, tags, summary: "List kept deltas, oldest first" } }, async (request) => {
    const { limit, cursor } = request.query;
    return await deltas.list(request.token, { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) });
  });
  const changes = "What a sandbox changed, and what commit would refuse";
  app.get("/sandboxes/:id/delta", { schema: { params, tags, summary: changes } }, async (request) => {
    return await deltas.changes(request.token, request.params.id);
  });
  const text = "The changes as unified text, bytes for git apply";
  app.get("/sandboxes/:id/delta/text", { schema: { params, querystring: textQuery, tags, summary: text } }, async (request, reply) => {
    const { path } = request.query;
    await sendBytes(reply, deltas.text(request.token, request.params.id, path === undefined ? undefined : [path].flat()));
    return reply;
  });
  app.get("/sandboxes/:id/delta/export", { schema: { params, tags, summary: "The changed entries as a tar" } }, async (request, reply) => {
    await sendBytes(reply, deltas.export(request.token, request.params.id), "application/x-tar");
    return reply;
  });
  const commit = "Apply the changes to the codebase, all or nothing unless partial";
  app.post("/sandboxes/:id/delta/commit", { schema: { params, body: commitBody, tags, summary: commit } }, async (request) => {
    return await deltas.commit(request.token, request.params.id, request.body as CommitOptions);
  });
  app.delete("/sandboxes/:id/delta", { schema: { params, tags, summary: "Throw a kept delta away" } }, async (request) => {
    await deltas.discard(request.token, request.params.id);
    return { discarded: true };
  });
}
