// `python_execute` and `javascript_execute`: code in interpreters of the session's sandbox that keep their state. Invariant: what the code
// prints is never taken for its result or its error, and that earlier state is gone is said before anybody counts on it.

import type { ContentBlock } from "@modelcontextprotocol/server";
import { z } from "zod";
import type { CodeAnswer, ContextLanguage, MimeBundle } from "../../api/contexts.ts";
import { MAX_MCP_BODY_BYTES, MCP_IMAGE_BYTES, MCP_TEXT_BYTES } from "../../api/limits.ts";
import { decode, outputText } from "../text.ts";
import type { Tool, ToolAnswer, ToolCall } from "../tool.ts";

const DEFAULT_SECONDS = 60;
const MAX_SECONDS = 3_600;
const IMAGE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

const input = z.strictObject({
  code: z.string().max(MAX_MCP_BODY_BYTES).describe("Any number of lines; the value of a last expression is the result"),
  input: z.string().max(MAX_MCP_BODY_BYTES).optional().describe("What the code reads from its standard input"),
  context: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/)
    .default("main")
    .describe("Name of the interpreter; each keeps what was defined in it, and several run beside each other"),
  timeout: z.number().positive().max(MAX_SECONDS).default(DEFAULT_SECONDS).describe("Seconds after which the code is interrupted"),
});

const output = z.strictObject({
  status: z.enum(["success", "error", "timeout"]),
  stdout: z.string(),
  stderr: z.string(),
  result: z.string().optional().describe("Value of the last expression"),
  html: z.string().optional().describe("The same as HTML, where it has such a form: data, not a page to show"),
  error: z.strictObject({ name: z.string(), message: z.string(), traceback: z.string() }).optional(),
  truncated: z.boolean(),
  limitHit: z.string().nullable().describe("The limit of the sandbox that ended the code"),
  stateLost: z.boolean().describe("What earlier calls defined in this interpreter is gone"),
});

export const pythonExecute = codeTool(
  "python",
  "Python",
  "Figures of matplotlib come as images. Variables, functions and imports stay; await works at the top level.",
);
export const javascriptExecute = codeTool(
  "typescript",
  "JavaScript",
  "Types of TypeScript are allowed from Node.js 22.13 on. Variables stay; await works at the top level.",
);

function codeTool(language: ContextLanguage, title: string, more: string): Tool<typeof input, typeof output> {
  return {
    name: `${title.toLowerCase()}_execute`,
    title: `Run ${title}`,
    description: `Runs ${title} in the sandbox, in an interpreter that keeps its state from one call to the next. ${more}`,
    input,
    output,
    hints: { readOnly: false, destructive: true },
    run: async (request, call) => {
      const context = await call.session.context(call.sandbox, { language, name: request.context });
      return answerOf(await runIn(context.id, request, call), call.stateLost || context.isNew);
    },
  };
}

async function runIn(id: string, { code, input: stdin, timeout }: z.output<typeof input>, { sandbox, signal, progress }: ToolCall) {
  progress.message = "waiting for its turn";
  return await sandbox.contexts.run(id, {
    code,
    ...(stdin === undefined ? {} : { input: stdin }),
    timeoutMs: Math.ceil(timeout * 1_000),
    outputBytes: MCP_TEXT_BYTES,
    signal,
    onStarted: () => void (progress.message = ""),
  });
}

function answerOf(answer: CodeAnswer, stateLost: boolean): ToolAnswer<z.input<typeof output>> {
  const { status, error, truncated, limitHit, freshBecause } = answer;
  const main = answer.results.findLast(({ isMain }) => isMain)?.mime ?? {};
  const html = textOf(main, "text/html");
  const result = textOf(main, "text/plain");
  return {
    data: {
      status: status === "ok" ? "success" : status === "timeout" ? "timeout" : "error",
      stdout: outputText(answer.stdout),
      stderr: outputText(answer.stderr),
      ...(result === undefined ? {} : { result }),
      ...(html === undefined ? {} : { html }),
      ...(error === null ? {} : { error: { name: error.name, message: error.value, traceback: outputText(Buffer.from(error.traceback)) } }),
      truncated,
      limitHit,
      stateLost: stateLost || answer.stateLost || freshBecause !== null,
    },
    blocks: answer.results.flatMap(({ mime }) => imagesOf(mime)),
  };
}

function textOf(mime: MimeBundle, type: string): string | undefined {
  const value = mime[type];
  return typeof value === "string" ? decode(Buffer.from(value)) : undefined;
}

/** The first form of each that a client can show. */
function imagesOf(mime: MimeBundle): ContentBlock[] {
  const type = IMAGE_TYPES.find((candidate) => typeof mime[candidate] === "string");
  const data = type === undefined ? undefined : mime[type];
  // SAFETY: base64 as the sandbox gave it: decoded and encoded again, it is nothing else.
  if (type === undefined || typeof data !== "string" || data.length > MCP_IMAGE_BYTES * 2) return [];
  return [{ type: "image", data: Buffer.from(data, "base64").toString("base64"), mimeType: type }];
}
