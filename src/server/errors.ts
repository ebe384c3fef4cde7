// How errors are answered: as a code of the one table, without a stack; what nobody foresaw is told to the log.
// Not where they are found. Invariant: whatever is thrown, the answer says no more than its code and message.

import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "pino";
import { CorralError, ERROR_KINDS, type ErrorCode, errorCode } from "../api/errors.ts";
import type { WireError } from "../api/server.ts";
import { causeText } from "./log.ts";
import type { ZodApp } from "./shapes.ts";

const RETRY_AFTER_MS = 1_000;

/** `countStranger` is called before it is told that there is no such route. */
export function answerErrors(app: ZodApp, log: Logger, countStranger: (request: FastifyRequest) => Promise<void>): void {
  app.setErrorHandler((error, request, reply) => {
    const answered = asCorralError(error as FastifyError);
    if (answered.code === "internal") log.error({ requestId: request.id, cause: causeText(answered.cause ?? answered) }, "defect");
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
}

/** Of what Fastify refuses before any hook has seen it: a path that is malformed. */
export function answerMalformed(_error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { status } = ERROR_KINDS.request_invalid;
  const message = "the request cannot be read: its path is malformed, or a part of it is too long";
  const body: WireError = { code: "request_invalid", message, requestId: request.id };
  void reply.code(status).header("connection", "close").send({ error: body });
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
