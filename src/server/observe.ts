// What is seen of every request: its stages in `Server-Timing`, one line of the log, the counters of metrics.ts. It changes no answer.
// Invariant: a label or a line names the route's pattern, never the address that was asked: an address may hold a ticket or a name.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "pino";
import type { Seen, ServerMetrics } from "./metrics.ts";

declare module "fastify" {
  interface FastifyRequest {
    seen: Seen;
  }
}

export interface ObserveParts {
  readonly log: Logger;
  readonly metrics: ServerMetrics;
}

const NO_ROUTE = "none";

export function observe(app: FastifyInstance, { log, metrics }: ObserveParts): void {
  // A field that every request has from the start; the hook below fills it before anything reads it.
  app.decorateRequest("seen", null as unknown as Seen);
  app.addHook("onRequest", (request, _reply, done) => {
    request.seen = { startedMs: performance.now(), stages: new Map(), parts: new Map() };
    done();
  });
  app.addHook("onSend", (request, reply, payload, done) => {
    void reply.headers(seenHeaders(request));
    done(null, payload);
  });
  app.addHook("onResponse", (request, reply, done) => {
    const ms = performance.now() - request.seen.startedMs;
    const route = routeOf(request);
    metrics.request({ route, method: request.method, status: reply.raw.statusCode, ms, seen: request.seen });
    log[levelOf(request, reply)](lineOf(request, { route, status: reply.raw.statusCode, ms: Math.round(ms * 1000) / 1000 }), "request");
    done();
  });
}

/** For an answer that is written past Fastify's own hooks. */
export function seenHeaders(request: FastifyRequest): Readonly<Record<string, string>> {
  const { startedMs, stages, parts } = request.seen;
  const total = performance.now() - startedMs;
  const named = [...stages.values()].reduce((sum, ms) => sum + ms, 0);
  const all = [...stages, ...parts, ["rest", Math.max(0, total - named)] as const, ["total", total] as const];
  return { "x-request-id": request.id, "server-timing": all.map(([name, ms]) => `${name};dur=${ms.toFixed(3)}`).join(", ") };
}

/** Runs a stage of a request and counts its time. */
export async function staged<T>(request: FastifyRequest, name: string, act: () => Promise<T>): Promise<T> {
  const began = performance.now();
  try {
    return await act();
  } finally {
    const { stages } = request.seen;
    stages.set(name, (stages.get(name) ?? 0) + performance.now() - began);
  }
}

function routeOf(request: FastifyRequest): string {
  return request.is404 ? NO_ROUTE : (request.routeOptions.url ?? NO_ROUTE);
}

function levelOf(request: FastifyRequest, reply: FastifyReply): "error" | "info" | "debug" {
  if (reply.raw.statusCode >= 500) return "error";
  return request.method === "GET" ? "debug" : "info";
}

function lineOf(request: FastifyRequest, facts: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { failure, sandboxId = idOf(request) } = request.seen;
  // Absent on a request that was refused before its key was looked at.
  const token = request.token as FastifyRequest["token"] | undefined;
  return {
    requestId: request.id,
    method: request.method,
    ...facts,
    ...(failure === undefined ? {} : { code: failure }),
    ...(token === undefined ? {} : { ownerId: token.ownerId }),
    ...(sandboxId === undefined ? {} : { sandboxId }),
  };
}

/** What a client wrote as the id of a sandbox, if it is spelled like one. */
function idOf(request: FastifyRequest): string | undefined {
  const { id } = (request.params ?? {}) as { readonly id?: unknown };
  return typeof id === "string" && /^sb[a-z0-9]{20}$/.test(id) ? id : undefined;
}
