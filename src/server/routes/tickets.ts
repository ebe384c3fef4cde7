// `POST /v1/sandboxes/{id}/tickets`: one-time tickets for what can send no key: a page that opens a port, a terminal in a browser.

import { z } from "zod";
import type { TerminalTicketBody } from "../../api/terminals.ts";
import type { ServerConfig } from "../../config/schema.ts";
import type { Port } from "../../service/ports.ts";
import type { Service } from "../../service/service.ts";
import { commandShape, env, noNul, port, sandboxParams as params, terminalSize, type ZodApp } from "../shapes.ts";
import { VISIT_PATH } from "./port-hosts.ts";

const terminal = terminalSize.extend({ command: commandShape.optional(), env: env.optional(), cwd: noNul.optional() });
const body = z.union([
  z.strictObject({ port }),
  z.strictObject({ terminal }),
  z.strictObject({ process: z.string().max(64), from: z.int().min(0).optional() }),
]);

export function ticketRoutes(app: ZodApp, { ports, terminals }: Service, origin: ServerConfig["proxy"]["origin"]): void {
  const summary = "A one-time ticket: for a port on its own host, for a new terminal, or for a process (both over /v1/ws)";
  app.post(
    "/sandboxes/:id/tickets",
    { config: { answers: [201] }, schema: { params, body, tags: ["tickets"], summary } },
    async (request, reply) => {
      const { id } = request.params;
      void reply.code(201).header("cache-control", "no-store");
      if (!("port" in request.body)) return await terminals.ticket(request.token, id, request.body as TerminalTicketBody);
      const to = { sandboxId: id, port: request.body.port };
      const issued = await ports.ticket(request.token, to);
      return { ...issued, ...(origin === null ? {} : { url: `${hostOf(origin, to)}${VISIT_PATH}?ticket=${issued.ticket}` }) };
    },
  );
}

function hostOf(origin: string, { sandboxId, port: number }: Port): string {
  const [scheme = "", host = ""] = origin.split("://");
  return `${scheme}://${number}-${sandboxId}.${host}`;
}
