// /v1/events: pages of what happened as JSON, or what happens as server-sent events when the request accepts those.

import { z } from "zod";
import { MAX_PAGE_ITEMS } from "../../api/limits.ts";
import type { EventRequest } from "../../service/events.ts";
import type { Service } from "../../service/service.ts";
import { EVENT_STREAM, streamEvents } from "../event-stream.ts";
import type { ZodApp } from "../shapes.ts";

const kind = z
  .string()
  .regex(/^[a-z]+(-[a-z]+)*$/)
  .max(64);
const id = z.string().regex(/^\d{1,15}$/);
const query = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  /** Id of the last event seen. */
  cursor: id.optional(),
  /** May be repeated. */
  kind: z.union([kind, z.array(kind).max(64)]).optional(),
  sandboxId: z
    .string()
    .regex(/^[a-z0-9]{1,64}$/)
    .optional(),
});
const headers = z.object({ "last-event-id": id.optional() });

export function eventRoutes(app: ZodApp, { events }: Service): void {
  // Followers hold no end up: they go on where they were when the server is back.
  app.addHook("preClose", (done) => {
    events[Symbol.dispose]();
    done();
  });
  const summary = "What happened, oldest first; with Accept: text/event-stream what happens, behind Last-Event-ID";
  app.get("/events", { schema: { querystring: query, headers, tags: ["events"], summary } }, async (request, reply) => {
    const { limit, cursor, kind: kinds, sandboxId } = request.query;
    const after = request.headers["last-event-id"] ?? cursor;
    const wanted: EventRequest = {
      ...(limit === undefined ? {} : { limit }),
      ...(after === undefined ? {} : { after }),
      ...(kinds === undefined ? {} : { kinds: [kinds].flat() }),
      ...(sandboxId === undefined ? {} : { sandboxId }),
    };
    if (request.headers.accept?.includes(EVENT_STREAM) !== true) return await events.list(request.token, wanted);
    await streamEvents((signal) => events.follow(request.token, wanted, signal), request, reply);
    return reply;
  });
}
