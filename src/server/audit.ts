// Which requests belong into the audit log: every one that may change something, by its method, and every refusal for lack of rights. A
// route needs to do nothing for it, and can forget nothing. Invariant: a row names the route's nouns and the ids that were asked for,
// never a body, a header or a query.

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Service } from "../service/service.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Id of what an answer tells of: of a thing that was made. */
    madeId: string | undefined;
  }
}

export const READS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
const REFUSALS = new Set(["unauthorized", "forbidden"]);
const VERBS: Readonly<Record<string, string>> = { DELETE: "delete", PUT: "put", PATCH: "patch" };
const SINGULAR = /^(.*)s$/;
/** Requests without a key that holds are counted together for so long, ms: whoever guesses keys must not fill a disk. */
const STRANGERS_MS = 10_000;

export function auditRequests(app: FastifyInstance, { audit }: Service): void {
  const strangers = { count: 0, sinceMs: -Infinity };
  app.decorateRequest("madeId", undefined);
  app.addHook("onRequest", (request, _reply, done) => {
    if (!READS.has(request.method)) audit.demandRoom();
    done();
  });
  app.addHook("preSerialization", (request, _reply, payload, done) => {
    const { id } = (payload ?? {}) as { readonly id?: unknown };
    if (typeof id === "string") request.madeId = id;
    done(null, payload);
  });
  app.addHook("onResponse", (request, reply, done) => {
    const { failure } = request.seen;
    // Absent on a request that was refused before its key was known.
    const token = request.token as FastifyRequest["token"] | undefined;
    const outcome = failure ?? (reply.raw.statusCode < 400 ? "ok" : String(reply.raw.statusCode));
    if (READS.has(request.method) && !REFUSALS.has(outcome)) return done();
    const row = { action: actionOf(request), subjectId: subjectOf(request), outcome };
    if (token !== undefined) {
      audit.record({ ownerId: token.ownerId, tokenId: token.id, ...row, details: { requestId: request.id } });
      return done();
    }
    strangers.count += 1;
    const now = performance.now();
    if (now - strangers.sinceMs < STRANGERS_MS) return done();
    audit.record({ ownerId: "", tokenId: "", ...row, details: { requestId: request.id, count: strangers.count } });
    strangers.count = 0;
    strangers.sinceMs = now;
    done();
  });
}

/** `POST /v1/sandboxes/:id/delta/commit` is `sandbox-delta-commit`, `DELETE /v1/tokens/:id` is `token-delete`. */
function actionOf({ method, routeOptions }: FastifyRequest): string {
  const parts = (routeOptions.url ?? "").split("/").filter((part) => part !== "" && part !== "v1" && !/^[:*]/.test(part));
  const [noun = "none", ...rest] = parts;
  const verb = VERBS[method] ?? (method === "POST" && rest.length === 0 ? "create" : READS.has(method) ? "read" : undefined);
  return [noun.replace(SINGULAR, "$1").replace(/xe$/, "x"), ...rest, ...(verb === undefined ? [] : [verb])].join("-");
}

function subjectOf({ params, madeId }: FastifyRequest): string {
  const { id } = (params ?? {}) as { readonly id?: unknown };
  // SAFETY: a client wrote it: only what is spelled like an id is kept.
  return typeof id === "string" && /^[a-z0-9]{1,64}$/.test(id) ? id : (madeId ?? "");
}
