// /v1/sandboxes/{id}/shells: shells that keep their state. Nothing is decided here but the shape of what comes in.
// Invariant: until a command's turn has come an error is an answer like any other; who goes away before that is not run.

import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { MAX_SHELL_BODY_BYTES, MAX_SHELL_COMMAND_BYTES } from "../../api/limits.ts";
import type { RunInShellBody, ShellCalls, ShellResult } from "../../api/shells.ts";
import type { Service } from "../../service/service.ts";
import { FrameAnswer, gone } from "../frame-answer.ts";
import { env, idempotent as headers, ms, noNul, type ZodApp } from "../shapes.ts";

const tags = ["shells"];
const params = z.strictObject({ id: z.string().max(64) });
const one = params.extend({ shell: z.string().max(64) });
const openBody = z.strictObject({ env: env.optional(), cwd: noNul.optional() });
const runBody = z.strictObject({
  command: z.string().max(MAX_SHELL_COMMAND_BYTES),
  stdin: z.base64().optional(),
  timeoutMs: ms.optional(),
  outputBytes: z.int().positive().optional(),
});

type RunBody = RunInShellBody & { readonly stdin?: string };

export function shellRoutes(app: ZodApp, { processes }: Service): void {
  const path = "/sandboxes/:id/shells";
  app.post(
    path,
    { config: { answers: [201] }, schema: { params, body: openBody, headers, tags, summary: "Open a shell" } },
    async (request, reply) => {
      const calls = processes.shells(request.token, request.params.id);
      const key = request.headers["idempotency-key"];
      const { env: entries, cwd } = request.body;
      const body = { ...(entries === undefined ? {} : { env: entries }), ...(cwd === undefined ? {} : { cwd }) };
      return reply.code(201).send(await calls.open(body, key === undefined ? {} : { idempotencyKey: key }));
    },
  );
  app.get(path, { schema: { params, tags, summary: "Its shells, open or closed not long ago" } }, async (request) => {
    return await processes.shells(request.token, request.params.id).list();
  });
  app.get(`${path}/:shell`, { schema: { params: one, tags, summary: "One shell" } }, async (request) => {
    return await processes.shells(request.token, request.params.id).get(request.params.shell);
  });
  const run = "Run a command in it, in its turn; answers as exec";
  app.post(
    `${path}/:shell/run`,
    { bodyLimit: MAX_SHELL_BODY_BYTES, schema: { params: one, body: runBody, tags, summary: run } },
    async (request, reply) => {
      const calls = processes.shells(request.token, request.params.id);
      await streamRun(calls, { id: request.params.shell, body: request.body as RunBody }, request, reply);
    },
  );
  app.post(`${path}/:shell/interrupt`, { schema: { params: one, tags, summary: "What Ctrl-C does" } }, async (request) => {
    await processes.shells(request.token, request.params.id).interrupt(request.params.shell);
    return { sent: true };
  });
  app.delete(`${path}/:shell`, { schema: { params: one, tags, summary: "Close it and end all that it started" } }, async (request) => {
    await processes.shells(request.token, request.params.id).close(request.params.shell);
    return { closed: true };
  });
}

interface Wanted {
  readonly id: string;
  readonly body: RunBody;
}

async function streamRun(calls: ShellCalls, { id, body }: Wanted, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { stdin, ...rest } = body;
  const out = new FrameAnswer(request, reply);
  const started = Promise.withResolvers<void>();
  const running = calls.run(id, {
    ...rest,
    ...(stdin === undefined ? {} : { stdin: Buffer.from(stdin, "base64") }),
    signal: gone(reply),
    onStarted: started.resolve,
    onStdout: (chunk) => out.send("stdout", chunk),
    onStderr: (chunk) => out.send("stderr", chunk),
  });
  await Promise.race([started.promise, running]);
  await out.open({});
  await out.close(async () => endOf(await running));
}

function endOf({ stdout: _, stderr: __, ...end }: ShellResult): Omit<ShellResult, "stdout" | "stderr"> {
  return end;
}
