// /v1/sandboxes: reads a request, asks the service, answers. Nothing is decided here but the shape of what comes in.
// Invariant: what a schema lets through has the types of api/; unknown fields are refused, so that a misspelled one is told.

import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { MAX_BATCH, MAX_PAGE_ITEMS, MAX_PUBLIC_PORTS } from "../../api/limits.ts";
import type { CreateSandboxBody, ExecBody, PauseBody, ResumeBody } from "../../api/server.ts";
import { networkShape } from "../../config/network-shape.ts";
import { createBatch } from "../../service/batch.ts";
import type { Service } from "../../service/service.ts";
import { streamExec } from "../exec-stream.ts";
import {
  commandShape,
  env,
  idempotent as headers,
  limits,
  ms,
  noNul,
  pairs,
  policy,
  port,
  sandboxParams as params,
  type ZodApp,
} from "../shapes.ts";

const createBody = z.strictObject({
  codebaseDir: noNul.min(1).optional(),
  template: z.string().max(64).optional(),
  snapshot: z.string().max(64).optional(),
  codebase: z.strictObject({ id: z.string().max(64), version: z.int().min(1).optional() }).optional(),
  policy: policy.optional(),
  runtime: z.enum(["native", "bwrap"]).optional(),
  limits: limits.optional(),
  env: env.optional(),
  metadata: pairs.optional(),
  publicPorts: z.array(port).max(MAX_PUBLIC_PORTS).optional(),
  delta: z.enum(["ephemeral", "keep"]).optional(),
  timeoutMs: ms.nullable().optional(),
  onTimeout: z.enum(["kill", "pause"]).optional(),
  network: networkShape.optional(),
});
const execBody = z.strictObject({
  command: commandShape,
  env: env.optional(),
  cwd: noNul.optional(),
  stdin: z.base64().optional(),
  timeoutMs: ms.optional(),
  idleTimeoutMs: ms.optional(),
  outputBytes: z.int().positive().optional(),
});
const listQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_ITEMS).optional(),
  cursor: z.string().max(64).optional(),
  state: z.enum(["created", "running", "paused", "destroyed", "failed"]).optional(),
  /** `key=value`, may be repeated. */
  metadata: z.union([noNul, z.array(noNul).max(16)]).optional(),
});
/** Of a create, one after the other; its other timings are parts of these. */
const CREATE_STAGES: readonly string[] = ["probeMs", "journalMs", "templateMs", "viewMs", "containMs", "bindMs"];

const renewBody = z.strictObject({ timeoutMs: ms.nullable() });

export function sandboxRoutes(app: ZodApp, { sandboxes }: Service): void {
  app.post(
    "/sandboxes",
    { config: { answers: [201] }, schema: { body: createBody, headers, tags: ["sandboxes"], summary: "Make a sandbox" } },
    async (request, reply) => {
      const made = await sandboxes.create(request.token, request.body as CreateSandboxBody, request.headers["idempotency-key"]);
      tellStages(request, made.info?.timings ?? {});
      request.seen.sandboxId = made.id;
      return reply.code(201).send(made);
    },
  );
  batchRoute(app, sandboxes);
  app.get(
    "/sandboxes",
    { schema: { querystring: listQuery, tags: ["sandboxes"], summary: "List sandboxes, newest first" } },
    async (request) => {
      const { state, metadata, limit, cursor } = request.query;
      const wanted = [metadata ?? []].flat().map((pair): [string, string] => {
        const at = pair.indexOf("=");
        return at === -1 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
      });
      return await sandboxes.list(request.token, {
        metadata: Object.fromEntries(wanted),
        ...(state === undefined ? {} : { states: [state] }),
        ...(limit === undefined ? {} : { limit }),
        ...(cursor === undefined ? {} : { cursor }),
      });
    },
  );
  oneRoutes(app, sandboxes);
  app.delete("/sandboxes/:id", { schema: { params, tags: ["sandboxes"], summary: "Destroy a sandbox" } }, async (request) => {
    return { destroyed: await sandboxes.destroy(request.token, request.params.id) };
  });
  app.post(
    "/sandboxes/:id/renew",
    { schema: { params, body: renewBody, tags: ["sandboxes"], summary: "Move its end" } },
    async (request) => {
      return await sandboxes.renew(request.token, request.params.id, request.body.timeoutMs);
    },
  );
  const pauseBody = z.strictObject({ memory: z.boolean().optional() });
  app.post(
    "/sandboxes/:id/pause",
    { schema: { params, body: pauseBody, tags: ["sandboxes"], summary: "Pause it, with its processes or without" } },
    async (request) => await sandboxes.pause(request.token, request.params.id, request.body as PauseBody),
  );
  const resumeBody = z.strictObject({ timeoutMs: ms.nullable().optional() });
  app.post(
    "/sandboxes/:id/resume",
    { schema: { params, body: resumeBody, tags: ["sandboxes"], summary: "Resume it; so does whatever else asks for it" } },
    async (request) => await sandboxes.resume(request.token, request.params.id, request.body as ResumeBody),
  );
  const summary = "Run a command; answers frames (1 byte kind, 4 bytes length, payload), or lines with Accept: application/x-ndjson";
  app.post("/sandboxes/:id/exec", { schema: { params, body: execBody, tags: ["processes"], summary } }, async (request, reply) => {
    const sandbox = await sandboxes.open(request.token, request.params.id);
    await streamExec(sandbox, request.body as ExecBody, request, reply);
  });
}

/** What a create took, unless it was an earlier one's that a repeated request is answered with. */
function tellStages({ seen }: FastifyRequest, timings: Readonly<Record<string, number>>): void {
  const whole = CREATE_STAGES.reduce((sum, stage) => sum + (timings[stage] ?? 0), 0);
  if (whole > performance.now() - seen.startedMs) return;
  for (const [stage, took] of Object.entries(timings)) {
    const kind = CREATE_STAGES.includes(stage) ? seen.stages : seen.parts;
    kind.set(stage.replace(/Ms$/, ""), took);
  }
}

function oneRoutes(app: ZodApp, sandboxes: Service["sandboxes"]): void {
  app.get("/sandboxes/:id", { schema: { params, tags: ["sandboxes"], summary: "One sandbox" } }, async (request) => {
    return await sandboxes.get(request.token, request.params.id);
  });
  const metrics = "CPU time, memory, processes, traffic and delta of one sandbox; resumes nothing";
  app.get("/sandboxes/:id/metrics", { schema: { params, tags: ["sandboxes"], summary: metrics } }, async (request) => {
    return await sandboxes.metrics(request.token, request.params.id);
  });
}

function batchRoute(app: ZodApp, sandboxes: Service["sandboxes"]): void {
  const batchBody = z.strictObject({ items: z.array(createBody).min(1).max(MAX_BATCH) });
  const batch = "Make several; each item is a sandbox or its error";
  app.post("/sandboxes/batch", { schema: { body: batchBody, headers, tags: ["sandboxes"], summary: batch } }, async (request) => {
    const bodies = request.body.items as CreateSandboxBody[];
    return { items: await createBatch(sandboxes, request.token, bodies, request.headers["idempotency-key"]) };
  });
}
