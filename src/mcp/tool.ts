// What a tool is, and how one is put before a client: its shapes, its answer as data and as one inert text, its errors, its progress.
// Invariant: what comes out of a sandbox reaches the client as values of JSON alone, never as a block, a message or a tool of its own.

import type { ContentBlock, McpServer, ServerContext, StandardSchemaWithJSON } from "@modelcontextprotocol/server";
import type { z } from "zod";
import { CorralError, errorCode } from "../api/errors.ts";
import { inertJson } from "../base/inert.ts";
import type { McpSession, Stand } from "./session.ts";

const PROGRESS_MS = 1_000;

export interface ToolCall extends Stand {
  readonly session: McpSession;
  /** The client took the call back, or went. */
  readonly signal: AbortSignal;
  /** What is told to a client that asked for progress, each second while the call runs. */
  readonly progress: { message: string };
}

export interface ToolAnswer<Output> {
  readonly data: Output;
  /** Beside the text: images. */
  readonly blocks?: readonly ContentBlock[];
  readonly isError?: boolean;
}

export interface Tool<Input extends z.ZodObject, Output extends z.ZodObject> {
  readonly name: string;
  readonly title: string;
  /** Read by a model: what it does, when to take it, what it answers. */
  readonly description: string;
  readonly input: Input;
  readonly output: Output;
  readonly hints: { readonly readOnly: boolean; readonly destructive?: boolean; readonly idempotent?: boolean };
  run(input: z.output<Input>, call: ToolCall): Promise<ToolAnswer<z.input<Output>>>;
}

/** Puts a tool before the clients of a server. */
export function offer<Input extends z.ZodObject, Output extends z.ZodObject>(
  server: McpServer,
  session: McpSession,
  tool: Tool<Input, Output>,
): void {
  const { name, title, description, input, output, hints } = tool;
  const annotations = {
    title,
    readOnlyHint: hints.readOnly,
    destructiveHint: hints.destructive ?? false,
    idempotentHint: hints.idempotent ?? hints.readOnly,
    // What a sandbox reaches is its policy's to say; a tool itself reaches nothing else.
    openWorldHint: false,
  };
  const inputSchema: StandardSchemaWithJSON = input;
  const outputSchema: StandardSchemaWithJSON = output;
  server.registerTool(name, { title, description, inputSchema, outputSchema, annotations }, async (given, context) => {
    const { signal } = context.mcpReq;
    const progress = { message: "" };
    using _ = tellProgress(context, progress);
    try {
      // The SDK has checked the arguments against `input`; its types do not follow a generic schema.
      const wanted = given as z.output<Input>;
      const answer = await session.call((stand) => tool.run(wanted, { ...stand, session, signal, progress }));
      const { data, blocks = [], isError = false } = answer;
      return { content: [{ type: "text", text: inertJson(data) }, ...blocks], structuredContent: data, isError };
    } catch (error) {
      return { content: [{ type: "text", text: inertJson({ error: told(error) }) }], isError: true };
    }
  });
}

function told(error: unknown): { readonly code: string; readonly message: string } {
  const code = errorCode(error);
  // A defect is not spelled out to a client: it may name what lies outside of the sandbox.
  if (code === undefined || !(error instanceof Error)) return { code: "internal", message: "a defect of Corral; its log says more" };
  return { code, message: error.message };
}

function tellProgress({ mcpReq }: ServerContext, progress: { readonly message: string }): Disposable {
  const { _meta: meta } = mcpReq;
  const token = meta?.progressToken;
  if (token === undefined) return { [Symbol.dispose]: () => undefined };
  let seconds = 0;
  const timer = setInterval(() => {
    seconds += 1;
    const message = `running for ${seconds} s${progress.message === "" ? "" : `, ${progress.message}`}`;
    const params = { progressToken: token, progress: seconds, message };
    // A client that is gone is told by the call's own signal.
    mcpReq.notify({ method: "notifications/progress", params }).catch(() => undefined);
  }, PROGRESS_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** A path inside the sandbox as a tool takes it: absolute, or from the codebase's root on. Throws `request_invalid`. */
export function insidePath(path: string): string {
  // SAFETY: nothing here means the machine's files; `file:` addresses read as a name inside would only mislead.
  if (/^[a-z][a-z0-9+.-]*:/i.test(path))
    throw new CorralError("request_invalid", `${JSON.stringify(path)} is an address; name a path inside the sandbox, such as src/index.ts`);
  return path.startsWith("/") ? path : `/workspace/${path}`;
}
