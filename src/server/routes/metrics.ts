// `GET /metrics`: the numbers, for whoever may see all owners' sandboxes, or on a port of its own that the machine's owner closed in.

import type { FastifyInstance } from "fastify";
import type { IncomingMessage, ServerResponse } from "node:http";
import { CorralError } from "../../api/errors.ts";
import type { ServerMetrics } from "../metrics.ts";

export function metricsRoute(app: FastifyInstance, metrics: ServerMetrics): void {
  app.get("/metrics", { schema: { hide: true } }, async (request, reply) => {
    if (request.token.scope !== "admin")
      throw new CorralError(
        "forbidden",
        "the numbers tell of all owners: they take a key of scope admin, or a port of their own (metrics.port)",
      );
    const { body, type } = await metrics.text();
    return reply.type(type).send(body);
  });
}

/** Without Fastify: nothing else answers there. */
export async function answerMetrics(metrics: ServerMetrics, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== "GET" || request.url !== "/metrics") {
    response.writeHead(404).end();
    return;
  }
  try {
    const { body, type } = await metrics.text();
    response.writeHead(200, { "content-type": type }).end(body);
  } catch {
    response.writeHead(500).end();
  }
}
