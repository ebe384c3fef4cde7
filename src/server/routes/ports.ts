// Ports of a sandbox below the API's own origin: for clients that send a key, never for pages.
// Invariant: without the key's header nothing is passed on; what comes back is kept from acting on this origin.

import type { FastifyRequest } from "fastify";
import { z } from "zod";
import type { PortProxy } from "../proxy/port-proxy.ts";
import { port, takeBodiesAsTheyCome, type ZodApp } from "../shapes.ts";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const portParams = z.object({ id: z.string().max(64), port: z.coerce.number().pipe(port) });
const tags = ["ports"];

export function portRoutes(app: ZodApp, proxy: PortProxy): void {
  void app.register((raw, _options, done) => {
    takeBodiesAsTheyCome(raw);
    for (const url of ["/sandboxes/:id/ports/:port", "/sandboxes/:id/ports/:port/*"])
      raw.route({
        method: METHODS,
        url,
        schema: { params: portParams, tags, summary: "What listens on a port inside, over HTTP or WebSocket", hide: url.endsWith("*") },
        handler: async (request, reply) => {
          const { id, port: number } = request.params as z.output<typeof portParams>;
          const [prefix, path] = split(request);
          const to = { sandboxId: id, port: number };
          await proxy.answer(request, reply, { form: "path", token: request.token, to, path, prefix, scheme: request.protocol });
          return reply;
        },
      });
    done();
  });
}

/** What belongs to us and what goes inside, as it was written: decoding it here would change what it means there. */
function split({ raw: { url = "" } }: FastifyRequest): readonly [prefix: string, path: string] {
  const prefix = /^\/v1\/sandboxes\/[^/?]+\/ports\/[^/?]+/.exec(url)?.[0] ?? "";
  const path = url.slice(prefix.length);
  return [prefix, path.startsWith("/") ? path : `/${path}`];
}
