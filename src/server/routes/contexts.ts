// /v1/sandboxes/{id}/contexts and /v1/sandboxes/{id}/code: interpreters that keep their state, and code that needs none. Nothing is decided here
// but the shape of what comes in. Invariant: until a call's turn has come an error is an answer like any other; who goes away takes back a
// call that waits and interrupts one that runs.

import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { type CodeAnswer, type CodeEnd, CONTEXT_LANGUAGES, type ContextLanguage, type RunAlone, type RunCode } from "../../api/contexts.ts";
import { MAX_CODE_BODY_BYTES, MAX_CODE_BYTES } from "../../api/limits.ts";
import type { Service } from "../../service/service.ts";
import { FrameAnswer, gone, json } from "../frame-answer.ts";
import { env, idempotent as headers, ms, noNul, sandboxParams as params, type ZodApp } from "../shapes.ts";

const tags = ["contexts"];
const one = params.extend({ context: z.string().max(64) });
const language = z.enum(CONTEXT_LANGUAGES as unknown as [ContextLanguage, ...ContextLanguage[]]);
const createBody = z.strictObject({ language: language.optional(), env: env.optional(), cwd: noNul.optional() });
const runBody = z.strictObject({
  code: z.string().max(MAX_CODE_BYTES),
  input: z.string().max(MAX_CODE_BYTES).optional(),
  env: env.optional(),
  timeoutMs: ms.optional(),
  outputBytes: z.int().positive().optional(),
  cache: z.boolean().optional(),
});
const aloneBody = runBody.extend({ language: language.optional(), cwd: noNul.optional() });

/** Zod says `undefined` of what is absent; the contract leaves it out. */
type Loose<T> = { readonly [K in keyof T]: T[K] | undefined };

function present<T extends object>(body: Loose<T>): T {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined)) as T;
}

export function contextRoutes(app: ZodApp, { processes }: Service): void {
  const path = "/sandboxes/:id/contexts";
  app.post(
    path,
    { config: { answers: [201] }, schema: { params, body: createBody, headers, tags, summary: "Create a context" } },
    async (request, reply) => {
      const calls = processes.contexts(request.token, request.params.id);
      const key = request.headers["idempotency-key"];
      return reply.code(201).send(await calls.create(present(request.body), key === undefined ? {} : { idempotencyKey: key }));
    },
  );
  app.get(path, { schema: { params, tags, summary: "Its contexts, in the order of their creation" } }, async (request) => {
    return await processes.contexts(request.token, request.params.id).list();
  });
  app.get(`${path}/:context`, { schema: { params: one, tags, summary: "One context" } }, async (request) => {
    return await processes.contexts(request.token, request.params.id).get(request.params.context);
  });
  const run = "Run code in it, in its turn; answers in frames: stdout, stderr, result, end";
  app.post(
    `${path}/:context/run`,
    { bodyLimit: MAX_CODE_BODY_BYTES, schema: { params: one, body: runBody, tags, summary: run } },
    async (request, reply) => {
      const calls = processes.contexts(request.token, request.params.id);
      const wanted = present<RunCode>(request.body);
      await streamCode((sinks) => calls.run(request.params.context, { ...wanted, ...sinks }), request, reply);
    },
  );
  const alone = "Run code in an interpreter of its own; answers as a context does";
  app.post(
    "/sandboxes/:id/code",
    { bodyLimit: MAX_CODE_BODY_BYTES, schema: { params, body: aloneBody, tags, summary: alone } },
    async (request, reply) => {
      const calls = processes.contexts(request.token, request.params.id);
      const wanted = present<RunAlone>(request.body);
      await streamCode((sinks) => calls.runAlone({ ...wanted, ...sinks }), request, reply);
    },
  );
  app.post(`${path}/:context/interrupt`, { schema: { params: one, tags, summary: "What Ctrl-C does" } }, async (request) => {
    await processes.contexts(request.token, request.params.id).interrupt(request.params.context);
    return { sent: true };
  });
  app.post(
    `${path}/:context/restart`,
    { schema: { params: one, tags, summary: "A new interpreter under the same id" } },
    async (request) => {
      return await processes.contexts(request.token, request.params.id).restart(request.params.context);
    },
  );
  app.delete(`${path}/:context`, { schema: { params: one, tags, summary: "End it and all that it started" } }, async (request) => {
    await processes.contexts(request.token, request.params.id).delete(request.params.context);
    return { deleted: true };
  });
}

type Sinks = Required<Pick<RunCode, "signal" | "onStarted" | "onStdout" | "onStderr" | "onResult">>;

async function streamCode(call: (sinks: Sinks) => Promise<CodeAnswer>, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const out = new FrameAnswer(request, reply);
  const started = Promise.withResolvers<object>();
  const running = call({
    signal: gone(reply),
    onStarted: started.resolve,
    onStdout: (chunk) => out.send("stdout", chunk),
    onStderr: (chunk) => out.send("stderr", chunk),
    onResult: (result) => out.send("result", json(result)),
  });
  const first = await Promise.race([started.promise, running.then(() => ({}))]);
  await out.open(first);
  await out.close(async () => endOf(await running));
}

function endOf({ stdout: _, stderr: __, results: ___, ...end }: CodeAnswer): CodeEnd {
  return end;
}
