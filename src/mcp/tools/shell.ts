// `shell_execute`: one bash for a session. A command that fails is a result like any other.

import { z } from "zod";
import { MAX_MCP_BODY_BYTES, MCP_TEXT_BYTES } from "../../api/limits.ts";
import type { ShellResult } from "../../api/shells.ts";
import { outputText } from "../text.ts";
import type { Tool, ToolAnswer, ToolCall } from "../tool.ts";

const DEFAULT_SECONDS = 120;
const MAX_SECONDS = 3_600;

const input = z.strictObject({
  command: z.string().min(1).max(MAX_MCP_BODY_BYTES).describe("Any number of lines of bash"),
  input: z.string().max(MAX_MCP_BODY_BYTES).optional().describe("What the command reads from its standard input; else that is empty"),
  timeout: z.number().positive().max(MAX_SECONDS).default(DEFAULT_SECONDS).describe("Seconds after which the command is interrupted"),
});

const output = z.strictObject({
  status: z.enum(["success", "error", "timeout"]),
  exitCode: z.number(),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean().describe("Output was longer than what is shown; write it to a file to read all of it"),
  cwd: z.string().describe("Where the next command begins"),
  limitHit: z.string().nullable().describe("The limit of the sandbox that ended the command"),
  stateLost: z.boolean().describe("Directory, variables, functions and jobs of earlier commands are gone"),
});

export const shellExecute: Tool<typeof input, typeof output> = {
  name: "shell_execute",
  title: "Run a command",
  description:
    "Runs a command in the sandbox's bash. Directory, variables and functions stay from one call to the next; commands run one after the other. " +
    "The codebase lies in /workspace. Changes stay in the sandbox until they are committed.",
  input,
  output,
  hints: { readOnly: false, destructive: true },
  run: async (request, call) => {
    const shell = await call.session.shell(call.sandbox);
    const result = await runInShell(shell.id, request, call);
    return answerOf(result, call.stateLost || shell.isNew);
  },
};

async function runInShell(id: string, request: z.output<typeof input>, { sandbox, signal, progress }: ToolCall): Promise<ShellResult> {
  const waiting = new AbortController();
  let hasBegun = false;
  // A command that waits is taken back. One that runs would run on unheard: it is interrupted, and its end is awaited as always.
  const takeBack = (): void => {
    if (hasBegun) sandbox.shells.interrupt(id).catch(() => undefined);
    else waiting.abort(signal.reason);
  };
  signal.addEventListener("abort", takeBack, { once: true });
  if (signal.aborted) takeBack();
  progress.message = "waiting for its turn";
  try {
    return await sandbox.shells.run(id, {
      command: request.command,
      timeoutMs: Math.ceil(request.timeout * 1_000),
      outputBytes: MCP_TEXT_BYTES,
      signal: waiting.signal,
      ...(request.input === undefined ? {} : { stdin: Buffer.from(request.input) }),
      onStarted: () => {
        hasBegun = true;
        progress.message = "";
      },
    });
  } finally {
    signal.removeEventListener("abort", takeBack);
  }
}

function answerOf(result: ShellResult, stateLost: boolean): ToolAnswer<z.input<typeof output>> {
  const { exitCode, timedOut, truncated, cwd, limitHit } = result;
  const status = timedOut ? "timeout" : exitCode === 0 ? "success" : "error";
  const [stdout, stderr] = [outputText(result.stdout), outputText(result.stderr)];
  return { data: { status, exitCode, stdout, stderr, truncated, cwd, limitHit, stateLost } };
}
