// `corral py`: runs Python in a sandbox of its own and ends as it ended: 0, 1 after an exception, 124 out of time, 130 after Ctrl-C.
// Invariant: stdout and stderr carry the code's own bytes, the value of the last expression and the traceback, made inert for a terminal.

import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { resolve } from "node:path";
import type { CodeAnswer, CodeResult, CodeStatus } from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import { EXIT_CORRAL, EXIT_FAILED, EXIT_OK, EXIT_SIGNAL } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { interruption } from "../interrupt.ts";
import { sinkOf } from "../streams.ts";
import { tell } from "../tell.ts";
import { parseDuration } from "../units.ts";
import { type CodeSandboxOptions, openCodeSandbox } from "./code-sandbox.ts";

const EXIT_TIMEOUT = 124;
const SIGINT = 2;
const EXITS: Readonly<Record<CodeStatus, number>> = {
  ok: EXIT_OK,
  error: EXIT_FAILED,
  timeout: EXIT_TIMEOUT,
  interrupted: EXIT_SIGNAL + SIGINT,
  died: EXIT_CORRAL,
};

export interface PyOptions extends CodeSandboxOptions {
  readonly code?: string;
  readonly timeout?: string;
}

/** `file`: of this machine; `-` is stdin. */
export async function py(file: string | undefined, options: PyOptions, host: CliHost): Promise<number> {
  if ((file === undefined) === (options.code === undefined))
    throw new CorralError("request_invalid", "give a file, or code with -c; `corral repl` is for typing");
  const isFromStdin = file === "-";
  const code = options.code ?? (isFromStdin ? (await buffer(process.stdin)).toString() : await contentOf(file ?? ""));
  const input = isFromStdin || process.stdin.isTTY ? undefined : (await buffer(process.stdin)).toString();
  using stop = interruption();
  await using opened = await openCodeSandbox({ ...options, ...(options.dir === undefined ? {} : { dir: resolve(options.dir) }) }, host);
  const sinks = { out: sinkOf(process.stdout, { onBroken: () => undefined }), err: sinkOf(process.stderr, { onBroken: () => undefined }) };
  const answer = await opened.sandbox.contexts.runAlone({
    code,
    ...(input === undefined ? {} : { input }),
    ...(options.timeout === undefined ? {} : { timeoutMs: parseDuration(options.timeout, "--timeout") }),
    onStdout: (chunk) => sinks.out.write(chunk),
    onStderr: (chunk) => sinks.err.write(chunk),
    onResult: (result) => sinks.out.write(shown(result)),
    signal: stop.soft,
  });
  if (answer.error !== null) await sinks.err.write(Buffer.from(errorText(answer)));
  await sinks.out.finish();
  await sinks.err.finish();
  if (answer.status === "timeout") tell(`the code was ended after ${options.timeout}`);
  return EXITS[answer.status];
}

/** As text; what has none is named. */
export function shown({ mime }: CodeResult): Uint8Array {
  const text = mime["text/plain"];
  return Buffer.from(typeof text === "string" ? `${text}\n` : `(${Object.keys(mime).join(", ")})\n`);
}

export function errorText({ error }: Pick<CodeAnswer, "error">): string {
  if (error === null) return "";
  return error.traceback === "" ? `${error.name}: ${error.value}\n` : error.traceback;
}

async function contentOf(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new CorralError("request_invalid", `${file} cannot be read: ${(cause as NodeJS.ErrnoException).code ?? "unknown"}`, { cause });
  }
}
