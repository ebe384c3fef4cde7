// The HTTP server: one Fastify instance with its routes, its answers to errors and its document. It decides nothing about sandboxes.
// Invariant: below /v1 nothing is done without a key that holds; every error is a code of the one table, without a stack; a page of a
// browser is refused unless its origin was configured, so that no web page acts with a person's key or reach.

import swagger from "@fastify/swagger";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import type { Logger } from "pino";
import { CorralError } from "../api/errors.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { ServerConfig } from "../config/schema.ts";
import type { Service } from "../service/service.ts";
import type { Store } from "../store/store.ts";
import { auditRequests, READS } from "./audit.ts";
import { requireKey } from "./auth.ts";
import { documentOptions } from "./document.ts";
import { answerErrors, answerMalformed } from "./errors.ts";
import { answerBroken, type Certificate, createListener } from "./listener.ts";
import type { ServerMetrics } from "./metrics.ts";
import { observe } from "./observe.ts";
import { PortProxy } from "./proxy/port-proxy.ts";
import { type RateLimits, rateLimits } from "./rate-limits.ts";
import { auditRoutes } from "./routes/audit.ts";
import { deltaRoutes } from "./routes/deltas.ts";
import { docsRoute } from "./routes/docs.ts";
import { eventRoutes } from "./routes/events.ts";
import { fileRoutes } from "./routes/files.ts";
import { metricsRoute } from "./routes/metrics.ts";
import { contextRoutes } from "./routes/contexts.ts";
import { codebaseRoutes } from "./routes/codebases.ts";
import { type McpDoor, mcpRoute } from "./routes/mcp.ts";
import { isPortHost, leadPortHosts, portHostRoutes } from "./routes/port-hosts.ts";
import { networkRoutes } from "./routes/networks.ts";
import { policyRoutes } from "./routes/policies.ts";
import { portRoutes } from "./routes/ports.ts";
import { processRoutes } from "./routes/processes.ts";
import { sandboxRoutes } from "./routes/sandboxes.ts";
import { terminalRoute } from "./routes/terminals.ts";
import { ticketRoutes } from "./routes/tickets.ts";
import { shellRoutes } from "./routes/shells.ts";
import { templateRoutes } from "./routes/templates.ts";
import { secretRoutes } from "./routes/secrets.ts";
import { snapshotRoutes } from "./routes/snapshots.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import type { ZodApp } from "./shapes.ts";
import type { Upgrades } from "./upgrade.ts";

export interface AppParts {
  readonly service: Service;
  readonly store: Store;
  readonly clock: Clock;
  readonly version: string;
  readonly log: Logger;
  readonly metrics: ServerMetrics;
  readonly upgrades: Upgrades;
  readonly mcp: McpDoor;
  readonly config: ServerConfig;
  /** Absent: plain HTTP. */
  readonly certificate?: Certificate | undefined;
}

const REQUEST_ID_LENGTH = 16;

function bare({ config, certificate }: AppParts): ZodApp {
  return Fastify({
    serverFactory: (handler) => createListener(config.http, certificate, handler),
    clientErrorHandler: answerBroken,
    frameworkErrors: answerMalformed,
    bodyLimit: config.http.bodyBytes,
    trustProxy: config.http.trustedProxies.length === 0 ? false : [...config.http.trustedProxies],
    rewriteUrl: leadPortHosts(config.proxy.origin),
    genReqId: () => `req${randomText(REQUEST_ID_LENGTH)}`,
    // What is under way may end; who holds a connection and asks nothing does not hold up the end.
    forceCloseConnections: "idle",
    // What comes while it ends is told so by a code of the table, below.
    return503OnClosing: false,
  }).withTypeProvider<ZodTypeProvider>();
}

/** Ready to listen. */
export async function buildApp(parts: AppParts): Promise<ZodApp> {
  const app = bare(parts);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  parts.upgrades.attach(app.server, (request, response) => app.routing(request, response));
  const limits = rateLimits(parts.config.rateLimits);
  observe(app, parts);
  answerErrors(app, parts.log, (request) => limits.countStranger(request.ip));
  refuseFirst(app, parts.config.origins);
  await app.register(swagger, documentOptions(parts.version));
  const proxy = new PortProxy({ ...parts, config: parts.config.proxy });
  await app.register((open, _options, done) => {
    openRoutes(open.withTypeProvider<ZodTypeProvider>(), parts, limits);
    done();
  });
  const { origin } = parts.config.proxy;
  if (origin !== null)
    await app.register((hosts, _options, done) => {
      portHostRoutes(hosts.withTypeProvider<ZodTypeProvider>(), { service: parts.service, proxy, limits, origin });
      done();
    });
  await app.register((keyed, _options, done) => {
    auditRequests(keyed, parts.service);
    settleFirst(keyed, parts.store);
    requireKey(keyed, parts.service, limits);
    keyedRoutes(keyed.withTypeProvider<ZodTypeProvider>(), parts, proxy);
    done();
  });
  await app.ready();
  return app;
}

/** What comes while the server ends, and web pages of other origins. */
function refuseFirst(app: ZodApp, origins: readonly string[]): void {
  let ending = false;
  app.addHook("preClose", (done) => {
    ending = true;
    done();
  });
  app.addHook("onRequest", (request, reply, done) => {
    if (ending) void reply.header("connection", "close");
    done(
      ending ? new CorralError("overloaded", "the server is ending; ask again") : (hostProblem(request) ?? originProblem(request, origins)),
    );
  });
}

/** What a client was told that it happened outlives a power cut. Reads and streams of output tell of nothing new. */
function settleFirst(app: FastifyInstance, store: Store): void {
  app.addHook("onSend", async (request) => {
    if (!READS.has(request.method)) await store.settled();
  });
}

/** That ask for no key. */
function openRoutes(app: ZodApp, parts: AppParts, limits: RateLimits): void {
  terminalRoute(app, { ...parts, limits });
  docsRoute(app, limits);
  // Not counted: whoever watches the server asks often, and the answer costs nothing.
  app.get("/healthz", { schema: { hide: true } }, () => ({ ok: true }));
  app.get("/readyz", { schema: { hide: true }, onRequest: (request) => limits.countStranger(request.ip) }, async () => {
    await parts.store.ping();
    return { ok: true };
  });
}

function keyedRoutes(keyed: ZodApp, { service, metrics, config, mcp }: AppParts, proxy: PortProxy): void {
  mcpRoute(keyed, service, mcp);
  if (config.metrics.port === null) metricsRoute(keyed, metrics);
  void keyed.register(
    (plain, _options, done) => {
      const v1 = plain.withTypeProvider<ZodTypeProvider>();
      v1.get("/openapi.json", { schema: { hide: true } }, () => keyed.swagger());
      codebaseRoutes(v1, service);
      templateRoutes(v1, service);
      sandboxRoutes(v1, service);
      snapshotRoutes(v1, service);
      networkRoutes(v1, service);
      secretRoutes(v1, service);
      processRoutes(v1, service);
      shellRoutes(v1, service);
      contextRoutes(v1, service);
      fileRoutes(v1, service);
      deltaRoutes(v1, service);
      policyRoutes(v1, service);
      portRoutes(v1, proxy);
      ticketRoutes(v1, service, config.proxy.origin);
      eventRoutes(v1, service);
      auditRoutes(v1, service);
      tokenRoutes(v1, service);
      done();
    },
    { prefix: "/v1" },
  );
}

/** Node.js would refuse it too, in words of its own. */
function hostProblem({ raw: { httpVersion, headers } }: FastifyRequest): CorralError | undefined {
  if (headers.host !== undefined || httpVersion !== "1.1") return undefined;
  return new CorralError("request_invalid", "the request names no Host, as HTTP/1.1 demands");
}

function originProblem(request: FastifyRequest, origins: readonly string[]): CorralError | undefined {
  const { origin } = request.headers;
  if (origin === undefined || origins.includes(origin) || isPortHost(request)) return undefined;
  return new CorralError("forbidden", "requests of web pages are refused unless the server was started with their origin");
}
