// MCP over streamable HTTP: the sessions of a server's clients. Who a request speaks for was found before; the protocol is the SDK's.
// Revision 2026-07-28 knows no sessions, so no sandbox that lasts: clients that speak it are told which revisions are served here.
// Invariant: a session is reached by a name of this server, with the key that opened it and with no other, and its sandbox does not outlive it.

import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { NodeStreamableHTTPServerTransport } from "@modelcontextprotocol/node";
import type { McpServer } from "@modelcontextprotocol/server";
import type { Client } from "../api/client.ts";
import { MAX_MCP_SESSIONS, MAX_MCP_SESSIONS_OF_KEY, MCP_IDLE_MS } from "../api/limits.ts";
import type { CreateSandboxBody } from "../api/server.ts";
import { mcpServerOf } from "./server.ts";
import { McpSession } from "./session.ts";

/** What a client was given: the server that speaks to it, and all that is its alone. */
export interface Served extends AsyncDisposable {
  readonly server: McpServer;
}

/** One request, as the server knows it. */
export interface McpRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The body, parsed; bounded by whoever parsed it. */
  readonly body: unknown;
  /** Id of the key that it came with. */
  readonly keyId: string;
  /** With that key's rights. */
  readonly client: Client;
  /** What the sandbox of a session that it opens is made with. */
  readonly sandbox: CreateSandboxBody;
}

/** Called when a session begins. */
export type Serve = (asked: Pick<McpRequest, "client" | "sandbox">) => Served;

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

interface Session {
  readonly keyId: string;
  readonly transport: NodeStreamableHTTPServerTransport;
  readonly served: Served;
  /** Requests without an answer as yet; a stream of events is one. */
  open: number;
  idle: NodeJS.Timeout | undefined;
  isOver: boolean;
}

export class McpEndpoint implements AsyncDisposable {
  readonly #sessions = new Map<string, Session>();
  readonly #ends = new Set<Promise<void>>();
  readonly #serve: Serve;
  readonly #hosts: ReadonlySet<string>;

  /** `hosts`: names of this server beside those of the loopback. */
  constructor(serve: Serve, hosts: readonly string[] = []) {
    this.#serve = serve;
    this.#hosts = new Set([...LOOPBACK, ...hosts]);
  }

  /** Answers it; the connection is this one's from here on. */
  async handle(asked: McpRequest): Promise<void> {
    const host = (asked.request.headers.host ?? "").replace(/:\d+$/, "").toLowerCase();
    // SAFETY: a web page that has a name of its own point here (DNS rebinding) would be one origin with this server, in its browser's eyes.
    if (!this.#hosts.has(host))
      return refuse(asked.response, 403, `${JSON.stringify(host)} is no name of this server; if it is, add it to mcp.hosts`);
    const id = asked.request.headers["mcp-session-id"];
    if (id === undefined && asked.request.method === "POST") return await this.#open(asked);
    const session = typeof id === "string" ? this.#sessions.get(id) : undefined;
    // SAFETY: another key's session is as absent as one that never was; an id that was seen or guessed is worth nothing.
    if (session === undefined || session.keyId !== asked.keyId)
      return refuse(asked.response, id === undefined ? 400 : 404, "there is no such session of this key; begin with initialize");
    await this.#answer(session, asked);
  }

  async #open(asked: McpRequest): Promise<void> {
    const ofKey = [...this.#sessions.values()].filter(({ keyId }) => keyId === asked.keyId).length;
    if (ofKey >= MAX_MCP_SESSIONS_OF_KEY || this.#sessions.size >= MAX_MCP_SESSIONS)
      return refuse(
        asked.response,
        429,
        "too many sessions are open; end one (DELETE with its Mcp-Session-Id), or wait until one was idle for long",
      );
    const served = this.#serve(asked);
    const session: Session = {
      keyId: asked.keyId,
      served,
      transport: new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => void this.#sessions.set(id, session),
        onsessionclosed: () => this.#end(session),
      }),
      open: 0,
      idle: undefined,
      isOver: false,
    };
    await served.server.connect(session.transport);
    await this.#answer(session, asked);
    // It was no initialize: the transport has said so, and nothing began.
    if (session.transport.sessionId === undefined) this.#end(session);
  }

  async #answer(session: Session, { request, response, body }: McpRequest): Promise<void> {
    session.open += 1;
    clearTimeout(session.idle);
    response.once("close", () => {
      session.open -= 1;
      if (session.open > 0 || session.isOver) return;
      session.idle = setTimeout(() => this.#end(session), MCP_IDLE_MS).unref();
    });
    await session.transport.handleRequest(request, response, body);
  }

  #end(session: Session): void {
    if (session.isOver) return;
    session.isOver = true;
    const { sessionId } = session.transport;
    if (sessionId !== undefined) this.#sessions.delete(sessionId);
    clearTimeout(session.idle);
    const ended = Promise.all([session.served.server.close(), session.served[Symbol.asyncDispose]()]).then(
      () => undefined,
      // A sandbox that could not be taken away is known to the service, and ends at its time.
      () => undefined,
    );
    this.#ends.add(ended);
    void ended.then(() => this.#ends.delete(ended));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions.values()) this.#end(session);
    await Promise.all(this.#ends);
  }
}

/** Of a server's configuration. */
interface EndpointConfig {
  readonly listen: { readonly host: string };
  readonly mcp: { readonly commit: boolean; readonly hosts: readonly string[] };
}

/** Corral's tools for the clients of a server. */
export function mcpEndpoint(version: string, { listen, mcp: { commit, hosts } }: EndpointConfig): McpEndpoint {
  const serve: Serve = ({ client, sandbox }) => {
    const session = new McpSession(client, { sandbox, mayCommit: commit });
    return { server: mcpServerOf(session, version), [Symbol.asyncDispose]: () => session[Symbol.asyncDispose]() };
  };
  return new McpEndpoint(serve, [listen.host, ...hosts]);
}

function refuse(response: ServerResponse, status: number, message: string): void {
  const error = { jsonrpc: "2.0", error: { code: -32_000, message }, id: null };
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(error)}\n`);
}
