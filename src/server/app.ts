// The HTTP server: one Fastify instance with its routes, its answers to errors and its document. It decides nothing about sandboxes.
// Invariant: below /v1 nothing is done without a key that holds; every error is a code of the one table, without a stack; a page of a
// browser is refused unless its origin was configured, so that no web page acts with a person's key or reach.

import swagger from "@fastify/swagger";
import Fastify, { type FastifyError, type FastifyReply, type FastifyRequest } from "fastify";
import { jsonSchemaTransform, serializerCompiler, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import type { Logger } from "pino";
import { CorralError, ERROR_KINDS, type ErrorCode, errorCode } from "../api/errors.ts";
import type { WireError } from "../api/server.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { ServerConfig } from "../config/schema.ts";
import type { Service } from "../service/service.ts";
import type { Store } from "../store/store.ts";
import { auditRequests } from "./audit.ts";
import { requireKey } from "./auth.ts";
import { answerBroken, type Certificate, createListener } from "./listener.ts";
import { causeText } from "./log.ts";
import type { ServerMetrics } from "./metrics.ts";
import { observe } from "./observe.ts";
import { rateLimits } from "./rate-limits.ts";
import { auditRoutes } from "./routes/audit.ts";
import { deltaRoutes } from "./routes/deltas.ts";
import { eventRoutes } from "./routes/events.ts";
import { fileRoutes } from "./routes/files.ts";
import { metricsRoute } from "./routes/metrics.ts";
import { codebaseRoutes } from "./routes/codebases.ts";
import { sandboxRoutes } from "./routes/sandboxes.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import type { ZodApp } from "./shapes.ts";

export interface AppParts {
  readonly service: Service;
  readonly store: Store;
  readonly clock: Clock;
  readonly version: string;
  readonly log: Logger;
  readonly metrics: ServerMetrics;
  readonly config: ServerConfig;
  /** Absent: plain HTTP. */
  readonly certificate?: Certificate | undefined;
}

const RETRY_AFTER_MS = 1_000;
const REQUEST_ID_LENGTH = 16;

function bare({ config, certificate }: AppParts): ZodApp {
  return Fastify({
    serverFactory: (handler) => createListener(config.http, certificate, handler),
    clientErrorHandler: answerBroken,
    bodyLimit: config.http.bodyBytes,
    trustProxy: config.http.trustedProxies.length === 0 ? false : [...config.http.trustedProxies],
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
  const limits = rateLimits(parts.config.rateLimits);
  const countStranger = (request: FastifyRequest): Promise<void> => limits.countStranger(request.ip);
  observe(app, parts);
  app.setErrorHandler((error, request, reply) => {
    const answered = asCorralError(error as FastifyError);
    if (answered.code === "internal") parts.log.error({ requestId: request.id, cause: causeText(answered.cause ?? answered) }, "defect");
    void answerError(answered, request, reply);
  });
  app.setNotFoundHandler({ preHandler: countStranger }, (request, reply) => {
    const path = request.url.split("?")[0];
    return answerError(
      new CorralError("route_not_found", `there is no ${request.method} ${path}; /v1/openapi.json lists what is`),
      request,
      reply,
    );
  });
  refuseFirst(app, parts.config.origins);
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Corral", version: parts.version },
      components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
      security: [{ key: [] }],
    },
    transform: jsonSchemaTransform,
  });
  // Not counted: whoever watches the server asks often, and the answer costs nothing.
  app.get("/healthz", { schema: { hide: true } }, () => ({ ok: true }));
  app.get("/readyz", { schema: { hide: true }, onRequest: countStranger }, async () => {
    await parts.store.ping();
    return { ok: true };
  });
  await app.register((keyed, _options, done) => {
    auditRequests(keyed, parts.service);
    requireKey(keyed, parts.service, limits);
    if (parts.config.metrics.port === null) metricsRoute(keyed, parts.metrics);
    keyed.get("/v1/openapi.json", { schema: { hide: true } }, () => app.swagger());
    keyed.register(
      (v1, _none, ready) => {
        codebaseRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        sandboxRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        fileRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        deltaRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        eventRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        auditRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        tokenRoutes(v1.withTypeProvider<ZodTypeProvider>(), parts.service);
        ready();
      },
      { prefix: "/v1" },
    );
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
    done(ending ? new CorralError("overloaded", "the server is ending; ask again") : originProblem(request, origins));
  });
}

function originProblem(request: FastifyRequest, origins: readonly string[]): CorralError | undefined {
  const { origin } = request.headers;
  if (origin === undefined || origins.includes(origin)) return undefined;
  return new CorralError("forbidden", "requests of web pages are refused unless the server was started with their origin");
}

function answerError(error: CorralError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status, retry } = ERROR_KINDS[error.code];
  request.seen.failure = error.code;
  const { retryAfterMs = RETRY_AFTER_MS, ...details } = (error.details ?? {}) as { readonly retryAfterMs?: number };
  const body: WireError = {
    code: error.code,
    message: error.message,
    requestId: request.id,
    ...(retry === "later" ? { retryAfterMs } : {}),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
  if (retry === "later") void reply.header("retry-after", Math.ceil(retryAfterMs / 1_000));
  if (error.code === "unauthorized") void reply.header("www-authenticate", "Bearer");
  return reply.code(status).send({ error: body });
}

/** Codes of Fastify that are a caller's mistake. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "request_too_large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "request_invalid",
  FST_ERR_CTP_EMPTY_JSON_BODY: "request_invalid",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "request_invalid",
  FST_ERR_CTP_INVALID_JSON_BODY: "request_invalid",
};

function asCorralError(error: FastifyError): CorralError {
  if (errorCode(error) !== undefined) return error as unknown as CorralError;
  const [first] = error.validation ?? [];
  if (first !== undefined) {
    const path = `${error.validationContext ?? "body"}${first.instancePath.replaceAll("/", ".")}`;
    return new CorralError("request_invalid", `${path}: ${first.message ?? "is wrong"}`, { details: { path } });
  }
  const known = FASTIFY_CODES[error.code];
  if (known !== undefined) return new CorralError(known, `the request cannot be read: ${error.message}`);
  if (error.statusCode === 400)
    return new CorralError("request_invalid", "the request cannot be read: its body is no JSON or its path is malformed");
  return new CorralError("internal", "the server failed in a way nobody foresaw; its log has the request id", { cause: error });
}
