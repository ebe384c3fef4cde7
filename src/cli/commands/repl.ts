// `corral repl`: types into a context of a sandbox of its own, or of a server's, until Ctrl-D. Lines from a pipe work alike, without prompts.
// Invariant: Ctrl-C interrupts the code that runs, never this program; what the code writes is made inert for a terminal.

import { createInterface } from "node:readline";
import { resolve } from "node:path";
import type { CodeAnswer, ContextCalls, ContextLanguage } from "../../api/contexts.ts";
import { EXIT_OK } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import { type Sink, sinkOf } from "../streams.ts";
import { tell } from "../tell.ts";
import { type CodeSandboxOptions, openCodeSandbox } from "./code-sandbox.ts";
import { errorText, shown } from "./py.ts";

export interface ReplOptions extends CodeSandboxOptions {
  readonly language: ContextLanguage;
}

/** What an interpreter says of code that goes on in the next line. */
const GOES_ON = /was never closed|unexpected EOF|expected an indented block|unterminated triple|Unexpected end of input|missing \) after/;

interface Face {
  readonly out: Sink;
  readonly err: Sink;
}

export async function repl(options: ReplOptions, host: CliHost): Promise<number> {
  const { dir, language } = options;
  await using opened = await openCodeSandbox({ ...options, ...(dir === undefined ? {} : { dir: resolve(dir) }) }, host);
  const { contexts } = opened.sandbox;
  const { id } = await contexts.create({ language });
  const face = {
    out: sinkOf(process.stdout, { onBroken: () => undefined }),
    err: sinkOf(process.stderr, { onBroken: () => undefined }),
  };
  const isTerminal = process.stdin.isTTY;
  const lines = createInterface({ input: process.stdin, ...(isTerminal ? { output: process.stdout } : {}), prompt: ">>> " });
  const interrupt = (): void => void contexts.interrupt(id);
  lines.on("SIGINT", interrupt);
  process.on("SIGINT", interrupt);
  if (isTerminal) tell(`${language} in a sandbox; Ctrl-D ends it`);
  try {
    await typed(lines, isTerminal, (code) => answered(contexts, { id, code }, face));
  } finally {
    process.off("SIGINT", interrupt);
    lines.close();
  }
  await face.out.finish();
  await face.err.finish();
  return EXIT_OK;
}

/** `run` tells whether the code was whole; else the next lines belong to it, up to an empty one. */
async function typed(
  lines: ReturnType<typeof createInterface>,
  isTerminal: boolean,
  run: (code: string) => Promise<boolean>,
): Promise<void> {
  let held: string[] = [];
  const ask = (): void => {
    lines.setPrompt(held.length === 0 ? ">>> " : "... ");
    if (isTerminal) lines.prompt();
  };
  ask();
  for await (const line of lines) {
    held.push(line);
    const code = held.join("\n");
    const isBlock = line.trim() !== "" && held.some((one) => one.trimEnd().endsWith(":") || one.startsWith("@"));
    if (code.trim() === "" || (!isBlock && (await run(code)))) held = [];
    ask();
  }
  if (held.length > 0) await run(held.join("\n"));
}

interface Typed {
  readonly id: string;
  readonly code: string;
}

async function answered(contexts: Pick<ContextCalls, "run">, { id, code }: Typed, { out, err }: Face): Promise<boolean> {
  const answer: CodeAnswer = await contexts.run(id, {
    code,
    onStdout: (chunk) => out.write(chunk),
    onStderr: (chunk) => err.write(chunk),
    onResult: (result) => out.write(shown(result)),
  });
  if (answer.error?.name === "SyntaxError" && GOES_ON.test(answer.error.value) && !code.endsWith("\n")) return false;
  if (answer.freshBecause !== null) tell(`what was defined before is gone: ${answer.freshBecause}`);
  await err.write(Buffer.from(errorText(answer)));
  return true;
}
