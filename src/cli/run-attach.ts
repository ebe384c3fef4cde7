// Runs the command of `corral run` with this process's streams: plain ones pass bytes unchanged, a terminal gets a pty of the sandbox.
// Invariant: when it returns, the command has ended, our terminal is as it was, and the program's output has left this process.

import { CorralError } from "../api/errors.ts";
import type { ExecRequest, ExecResult, Process, Sandbox } from "../api/sandbox.ts";
import type { Interruption } from "./interrupt.ts";
import { attachTerminal, isInteractive, terminalEnv, terminalSize } from "./pty.ts";
import { LastWords } from "./last-words.ts";
import type { RunOptions } from "./run-options.ts";
import { type Sink, sinkOf, source } from "./streams.ts";

/** How long a program may live on after its reader went away and SIGPIPE told it, ms. */
const BROKEN_PIPE_MS = 1_000;

export interface Attached {
  /** Absent when the sandbox was ended under the program (a second Ctrl-C). */
  readonly result: ExecResult | undefined;
  /** Ends the program's part of stdout, `text` on a line of its own. */
  readonly finish: (text?: string) => Promise<void>;
  /** What it said last on stderr, or on its terminal. */
  readonly lastWords: LastWords;
  /** Our stdout could not be written for a reason that is not a reader who left. */
  readonly outputError: Error | undefined;
}

export async function runAttached(sandbox: Sandbox, options: RunOptions, stop: Interruption): Promise<Attached> {
  return !options.json && isInteractive() ? await withPty(sandbox, options, stop) : await withPipes(sandbox, options, stop);
}

function commonRequest(options: RunOptions, stop: Interruption): ExecRequest {
  return {
    command: options.command,
    signal: stop.soft,
    outputBytes: Infinity,
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
  };
}

async function withPipes(sandbox: Sandbox, options: RunOptions, stop: Interruption): Promise<Attached> {
  /** Until the command runs there is nobody to tell. */
  let hangUp: () => void = () => undefined;
  let hungUp = false;
  let outputError: Error | undefined;
  const stdout = sinkOf(process.stdout, {
    onBroken: (error) => {
      if (error.code !== "EPIPE")
        outputError = new CorralError("disk_full", `stdout cannot be written: ${error.code ?? error.message}`, { cause: error });
      // What the kernel does to a program whose reader left; a program that ignores it is stopped.
      hungUp = true;
      hangUp();
    },
  });
  // A stderr without a reader is no reason to end a program.
  const stderr = sinkOf(process.stderr, { onBroken: () => undefined });
  const input = source(process.stdin);
  const lastWords = new LastWords();
  const onStderr = (chunk: Uint8Array): void | Promise<void> => {
    lastWords.take(chunk);
    return stderr.write(chunk);
  };
  const running = await sandbox.start({ ...commonRequest(options, stop), stdin: input, onStdout: stdout.write, onStderr });
  hangUp = () => {
    running.signal("SIGPIPE");
    setTimeout(() => running.stop(), BROKEN_PIPE_MS).unref();
  };
  if (hungUp) hangUp();
  const result = await ended(running, stop, sandbox);
  await input.return?.();
  // Whatever comes now is ours: nothing here may hold the process open.
  process.stdin.unref?.();
  await stderr.finish();
  return {
    result,
    lastWords,
    finish: (text) => finishBoth(stdout, text),
    get outputError() {
      return outputError;
    },
  };
}

async function finishBoth(stdout: Sink, text: string | undefined): Promise<void> {
  await stdout.finish(text);
}

async function withPty(sandbox: Sandbox, options: RunOptions, stop: Interruption): Promise<Attached> {
  const terminal = attachTerminal();
  const lastWords = new LastWords();
  let result: ExecResult | undefined;
  try {
    const running = await sandbox.start({
      ...commonRequest(options, stop),
      env: terminalEnv(),
      pty: terminalSize(),
      stdin: terminal.input,
      onStdout: (chunk) => {
        lastWords.take(chunk);
        return terminal.output(chunk);
      },
    });
    terminal.onResize((rows, cols) => running.resize(rows, cols));
    result = await ended(running, stop, sandbox);
  } finally {
    await terminal.detach();
  }
  return { result, lastWords, finish: () => Promise.resolve(), outputError: undefined };
}

/** The result; a second signal takes the whole sandbox away, and then there is none. */
async function ended(running: Process, stop: Interruption, sandbox: Sandbox): Promise<ExecResult | undefined> {
  const onHard = (): void => void sandbox.destroy().catch(() => undefined); // destroyed again, and reported, by the caller
  stop.hard.addEventListener("abort", onHard, { once: true });
  try {
    return await running.result;
  } catch (error) {
    if (stop.hard.aborted) return undefined;
    throw error;
  } finally {
    stop.hard.removeEventListener("abort", onHard);
  }
}
