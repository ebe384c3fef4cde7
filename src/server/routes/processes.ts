// /v1/sandboxes/{id}/processes: commands that run beside their callers. Nothing is decided here but the shape of what comes in.
// Invariant: no answer waits for a process without a bound or a reader; who goes away is no longer waited for.

import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { MAX_WAIT_MS } from "../../api/limits.ts";
import type { ProcessCalls, ProcessInfo, StartProcessBody } from "../../api/processes.ts";
import type { Service } from "../../service/service.ts";
import { FrameAnswer, gone, json } from "../frame-answer.ts";
import { takeRawBodies } from "../raw-body.ts";
import { commandShape, env, idempotent as headers, ms, noNul, terminalSize as size, type ZodApp } from "../shapes.ts";

const tags = ["processes"];
const params = z.strictObject({ id: z.string().max(64) });
const one = params.extend({ process: z.string().max(64) });
const startBody = z.strictObject({
  command: commandShape,
  env: env.optional(),
  cwd: noNul.optional(),
  stdin: z.boolean().optional(),
  pty: size.optional(),
  timeoutMs: ms.optional(),
});
const outputQuery = z.strictObject({
  from: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  hold: z.stringbool().optional(),
});
const stdinQuery = z.strictObject({ end: z.stringbool().optional() });
const signalBody = z.strictObject({ signal: z.string().max(32), tree: z.boolean().optional() });
const waitQuery = z.strictObject({ timeoutMs: z.coerce.number().int().min(1).max(MAX_WAIT_MS).optional() });

export function processRoutes(app: ZodApp, service: Service): void {
  // Their own scope: bodies of bytes are taken nowhere else by this.
  void app.register((scope, _options, done) => {
    takeRawBodies(scope);
    beginRoutes(scope, service);
    actRoutes(scope, service);
    done();
  });
}

function beginRoutes(app: ZodApp, { processes }: Service): void {
  const path = "/sandboxes/:id/processes";
  app.post(
    path,
    { config: { answers: [201] }, schema: { params, body: startBody, headers, tags, summary: "Start a process" } },
    async (request, reply) => {
      const calls = processes.processes(request.token, request.params.id);
      const key = request.headers["idempotency-key"];
      const made = await calls.start(request.body as StartProcessBody, key === undefined ? {} : { idempotencyKey: key });
      return reply.code(201).send(made);
    },
  );
  app.get(path, { schema: { params, tags, summary: "Its processes, running or ended not long ago" } }, async (request) => {
    return await processes.processes(request.token, request.params.id).list();
  });
  app.get(`${path}/:process`, { schema: { params: one, tags, summary: "One process" } }, async (request) => {
    return await processes.processes(request.token, request.params.id).get(request.params.process);
  });
  const output = "Its output from an offset to its end: frames as of exec, or lines with Accept: application/x-ndjson";
  app.get(
    `${path}/:process/output`,
    { schema: { params: one, querystring: outputQuery, tags, summary: output } },
    async (request, reply) => {
      const calls = processes.processes(request.token, request.params.id);
      const info = await calls.get(request.params.process);
      const { from = info.output.from, hold = false } = request.query;
      await streamOutput(calls, { info, from, hold }, request, reply);
    },
  );
  app.get(
    `${path}/:process/wait`,
    { schema: { params: one, querystring: waitQuery, tags, summary: "Wait for its end, a minute at most; answers how it is then" } },
    async (request, reply) => {
      const { timeoutMs = MAX_WAIT_MS } = request.query;
      const calls = processes.processes(request.token, request.params.id);
      return await calls.wait(request.params.process, { timeoutMs, signal: gone(reply) });
    },
  );
}

function actRoutes(app: ZodApp, { processes }: Service): void {
  const path = "/sandboxes/:id/processes/:process";
  const stdin = "Write to its stdin; the body is the bytes, end=true closes it after them";
  app.post(`${path}/stdin`, { schema: { params: one, querystring: stdinQuery, tags, summary: stdin } }, async (request, reply) => {
    const calls = processes.processes(request.token, request.params.id);
    const { process } = request.params;
    const { end = false } = request.query;
    const signal = gone(reply);
    // A body of no type has no parser to read it, and no bytes.
    if (request.headers["content-type"] !== undefined)
      for await (const chunk of request.raw) await calls.write(process, chunk as Buffer, { signal });
    await calls.write(process, new Uint8Array(), { end, signal });
    return { written: true };
  });
  app.post(`${path}/signal`, { schema: { params: one, body: signalBody, tags, summary: "Send it a signal" } }, async (request) => {
    const { signal, tree = false } = request.body;
    await processes.processes(request.token, request.params.id).signal(request.params.process, signal, { tree });
    return { sent: true };
  });
  app.post(`${path}/resize`, { schema: { params: one, body: size, tags, summary: "Resize its terminal" } }, async (request) => {
    await processes.processes(request.token, request.params.id).resize(request.params.process, request.body);
    return { resized: true };
  });
  const stop = "SIGINT, SIGTERM, SIGKILL on it and all that it started; answers at its end";
  app.delete(path, { schema: { params: one, tags, summary: stop } }, async (request, reply) => {
    return await processes.processes(request.token, request.params.id).stop(request.params.process, { signal: gone(reply) });
  });
}

interface Wanted {
  readonly info: ProcessInfo;
  readonly from: number;
  readonly hold: boolean;
}

async function streamOutput(
  calls: ProcessCalls,
  { info, from, hold }: Wanted,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const out = new FrameAnswer(request, reply);
  const signal = gone(reply);
  await out.open({ offset: from });
  await out.close(async () => {
    for await (const piece of calls.output(info.id, { from, hold, signal })) {
      if (piece.kind === "end") return piece.process;
      await out.send(piece.kind, piece.kind === "gap" ? json({ offset: piece.offset }) : piece.bytes);
    }
    throw new Error("the output of a process ended without its end");
  });
}
