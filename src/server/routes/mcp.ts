// `/mcp`: the Model Context Protocol over streamable HTTP. Here is who asks and what its sandbox is made with; what is spoken, and by which
// name, is the door's. Invariant: nobody reaches the door without a key.

import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import type { Client } from "../../api/client.ts";
import { MAX_MCP_BODY_BYTES } from "../../api/limits.ts";
import { NETWORK_PRESETS } from "../../api/network.ts";
import type { CreateSandboxBody } from "../../api/server.ts";
import { localClient } from "../../service/local-client.ts";
import type { Service } from "../../service/service.ts";
import type { ZodApp } from "../shapes.ts";

/** Speaks MCP; disposed of, all its sessions end, and their sandboxes. */
export interface McpDoor extends AsyncDisposable {
  /** The connection is the door's from here on. */
  handle(asked: McpAsked): Promise<void>;
}

export interface McpAsked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: unknown;
  readonly keyId: string;
  /** With the rights of that key. */
  readonly client: Client;
  /** What the sandbox of a new session is made with. */
  readonly sandbox: CreateSandboxBody;
}

const word = z.string().min(1).max(256);

/** In the address, because that is what every MCP client lets a person write down. */
const query = z.strictObject({
  codebase: word.optional(),
  version: z.coerce.number().int().positive().optional(),
  template: word.optional(),
  snapshot: word.optional(),
  policy: word.optional(),
  runtime: z.enum(["native", "bwrap"]).optional(),
  network: z
    .string()
    .max(256)
    .transform((names) => names.split(","))
    .pipe(z.array(z.enum(NETWORK_PRESETS)))
    .optional(),
});

export function mcpRoute(app: ZodApp, service: Service, door: McpDoor): void {
  // Streams of events end when somebody ends them, not when a request is answered.
  app.addHook("preClose", () => door[Symbol.asyncDispose]());
  app.route({
    method: ["GET", "POST", "DELETE"],
    url: "/mcp",
    bodyLimit: MAX_MCP_BODY_BYTES,
    schema: { hide: true, querystring: query },
    handler: async (request, reply) => {
      const { raw, body, token } = request;
      const sandbox = bodyOf(request.query);
      reply.hijack();
      await door.handle({ request: raw, response: reply.raw, body, keyId: token.id, client: localClient(service, token), sandbox });
    },
  });
}

function bodyOf({ codebase, version, network, ...rest }: z.output<typeof query>): CreateSandboxBody {
  const named = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as CreateSandboxBody;
  return {
    ...named,
    ...(codebase === undefined ? {} : { codebase: { id: codebase, ...(version === undefined ? {} : { version }) } }),
    ...(network === undefined ? {} : { network: { allow: network } }),
  };
}
