// One command's output as an HTTP answer: binary frames, or the same as lines of JSON. Invariant: a slow reader slows the program
// and costs the server one chunk; a reader that goes away does not end the command, whose further output is dropped.

import type { FastifyReply, FastifyRequest } from "fastify";
import type { ExecRequest, ExecResult, Sandbox } from "../api/sandbox.ts";
import type { ExecBody, ExecEnd } from "../api/server.ts";
import { FrameAnswer } from "./frame-answer.ts";
import { staged } from "./observe.ts";

export async function streamExec(sandbox: Sandbox, body: ExecBody, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { stdin, ...rest } = body;
  const out = new FrameAnswer(request, reply);
  const exec: ExecRequest = {
    ...rest,
    ...(stdin === undefined ? {} : { stdin: Buffer.from(stdin, "base64") }),
    onStdout: (chunk) => out.send("stdout", chunk),
    onStderr: (chunk) => out.send("stderr", chunk),
  };
  // Until it has started, an error is an answer like any other.
  const process = await staged(request, "start", () => sandbox.start(exec));
  await out.open({ pid: process.pid });
  await out.close(async () => endOf(await process.result));
}

function endOf({ stdout: _, stderr: __, ...end }: ExecResult): ExecEnd {
  return end;
}
