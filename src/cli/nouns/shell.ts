// `corral shell`: joins this terminal, or these pipes, to a process in a server's sandbox. Invariant: on every way out the terminal is as it
// was; the exit code is the program's own; a program that was started here ends with its window, unless the person left it on purpose.

import type { Client } from "../../api/client.ts";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { ProcessCalls, ProcessInfo } from "../../api/processes.ts";
import { EXIT_OK, EXIT_SIGNAL } from "../exit-codes.ts";
import { type Interruption, interruption } from "../interrupt.ts";
import { attachTerminal, isInteractive, terminalEnv, terminalSize } from "../pty.ts";
import { sinkOf, source } from "../streams.ts";
import { tell } from "../tell.ts";
import { findProcess } from "./logs.ts";
import { pairs, sandboxId } from "./sandboxes.ts";

export interface ShellOptions {
  readonly cwd?: string;
  readonly env?: readonly string[];
  readonly process?: string;
}

const SHELL = "if command -v bash >/dev/null 2>&1; then exec bash -i; else exec sh -i; fi";
/** Ctrl-]: twice leaves. */
const LEAVE = 0x1d;
/** Typing that the program has not read, bytes; then no more is read of the terminal. */
const MAX_TYPED_BYTES = 256 * 1024;
/** How long the server may take to hear that the window was closed, ms. */
const HANG_UP_MS = 2_000;

/** Our side of the joint. */
interface Face {
  readonly input: AsyncIterableIterator<Uint8Array>;
  readonly write: (kind: "stdout" | "stderr", bytes: Uint8Array) => void | Promise<void>;
  /** It has keys, of which one means leave. */
  readonly isTerminal: boolean;
}

export async function shell(client: Client, id: string, command: readonly string[], options: ShellOptions): Promise<number> {
  const isTerminal = isInteractive();
  if (!isTerminal && command.length === 0)
    throw new CorralError("request_invalid", "a shell wants a terminal, and this is none; give it a command: corral shell SB -- CMD");
  if (options.process !== undefined && command.length > 0)
    throw new CorralError("request_invalid", "--process names one that runs, and -- a new command; give one of them");
  const { processes } = client.sandbox(await sandboxId(client, id));
  using stop = interruption();
  const info =
    options.process === undefined
      ? await processes.start(request(command, options, isTerminal))
      : await findProcess(processes, options.process);
  const joint = new Joint(processes, { info, isOurs: options.process === undefined, stop });
  const exitCode = isTerminal ? await onTerminal(joint) : await onPipes(joint);
  if (joint.wasLeft) tell(`left running; corral shell ${id} --process ${info.id} goes back to it`);
  return exitCode;
}

function request(command: readonly string[], { cwd, env }: ShellOptions, isTerminal: boolean): Parameters<ProcessCalls["start"]>[0] {
  return {
    command: command.length === 0 ? SHELL : command,
    env: { ...(isTerminal ? terminalEnv() : {}), ...(env === undefined ? {} : pairs(env, "--env")) },
    ...(isTerminal ? { pty: terminalSize() } : { stdin: true }),
    ...(cwd === undefined ? {} : { cwd }),
  };
}

async function onTerminal(joint: Joint): Promise<number> {
  const terminal = attachTerminal();
  try {
    terminal.onResize((rows, cols) => joint.resize({ rows, cols }));
    if (!joint.isOurs) joint.resize(terminalSize());
    return await joint.run({ input: terminal.input, write: (_kind, bytes) => terminal.output(bytes), isTerminal: true });
  } finally {
    await terminal.detach();
  }
}

async function onPipes(joint: Joint): Promise<number> {
  const onBroken = (): void => joint.hangUp("SIGPIPE");
  const sinks = { stdout: sinkOf(process.stdout, { onBroken }), stderr: sinkOf(process.stderr, { onBroken: () => undefined }) };
  const input = source(process.stdin);
  const exitCode = await joint.run({ input, write: (kind, bytes) => sinks[kind].write(bytes), isTerminal: false });
  await input.return?.();
  process.stdin.unref?.();
  await sinks.stdout.finish();
  await sinks.stderr.finish();
  return exitCode;
}

interface JointParts {
  readonly info: ProcessInfo;
  /** It was started for this. */
  readonly isOurs: boolean;
  readonly stop: Interruption;
}

class Joint {
  readonly isOurs: boolean;
  /** The person went and let it run. */
  wasLeft = false;
  readonly #processes: ProcessCalls;
  readonly #info: ProcessInfo;
  readonly #stop: Interruption;
  readonly #over = new AbortController();
  #failure: unknown;

  constructor(processes: ProcessCalls, { info, isOurs, stop }: JointParts) {
    this.#processes = processes;
    this.#info = info;
    this.#stop = stop;
    this.isOurs = isOurs;
  }

  resize(size: ReturnType<typeof terminalSize>): void {
    this.#act(this.#processes.resize(this.#info.id, size, { signal: this.#over.signal }));
  }

  hangUp(signal: "SIGHUP" | "SIGPIPE"): void {
    this.#act(this.#processes.signal(this.#info.id, signal, { signal: AbortSignal.timeout(HANG_UP_MS) }));
  }

  /** Resolves with our exit code when it has ended, was left, or a signal told us to go. */
  async run(face: Face): Promise<number> {
    const onStop = (): void => this.#over.abort();
    this.#stop.soft.addEventListener("abort", onStop);
    const over = aborted(this.#over.signal);
    if (this.#stop.soft.aborted) onStop();
    void this.#type(face);
    try {
      // Whatever holds up the output (a terminal that was stopped, a server that is silent) holds up no way out.
      const exitCode = await Promise.race([this.#show(face), over]);
      if (exitCode !== undefined) return exitCode;
    } catch (error) {
      if (!this.#over.signal.aborted) throw error;
    } finally {
      this.#over.abort();
      this.#stop.soft.removeEventListener("abort", onStop);
    }
    if (this.#stop.signal !== undefined) return await this.#told(this.#stop.signal);
    if (this.wasLeft) return EXIT_OK;
    throw this.#failure;
  }

  async #show(face: Face): Promise<number> {
    const from = this.isOurs ? 0 : this.#info.output.to;
    for await (const piece of this.#processes.output(this.#info.id, { from, hold: true, signal: this.#over.signal })) {
      if (piece.kind === "end") return piece.process.end?.exitCode ?? EXIT_OK;
      if (piece.kind !== "gap") await face.write(piece.kind, piece.bytes);
    }
    throw new Error("the output of a process ended without its end");
  }

  /** What a closed window does to the programs in it; one that somebody else started stays. */
  async #told(signal: number): Promise<number> {
    const patience = AbortSignal.timeout(HANG_UP_MS);
    if (this.isOurs) await this.#processes.signal(this.#info.id, "SIGHUP", { tree: true, signal: patience }).catch(() => undefined);
    return EXIT_SIGNAL + signal;
  }

  async #type(face: Face): Promise<void> {
    const leaver = new Leaver();
    let waiting = 0;
    let written = Promise.resolve();
    for await (const typed of face.input) {
      const bytes = face.isTerminal ? leaver.feed(typed) : typed;
      waiting += bytes.length;
      written = written.then(() => this.#write(bytes)).finally(() => (waiting -= bytes.length));
      if (leaver.wantsOut) {
        this.wasLeft = true;
        this.#over.abort();
        return;
      }
      if (waiting > MAX_TYPED_BYTES) await written;
    }
    if (!face.isTerminal) void written.then(() => this.#write(new Uint8Array(), true));
  }

  async #write(bytes: Uint8Array, end = false): Promise<void> {
    if (this.#over.signal.aborted || (bytes.length === 0 && !end)) return;
    await this.#processes.write(this.#info.id, bytes, { end, signal: this.#over.signal }).catch((error: unknown) => this.#fail(error));
  }

  #act(done: Promise<void>): void {
    void done.catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    if (this.#over.signal.aborted || errorCode(error) === "process_ended") return; // its end is told anyway
    this.#failure = error;
    this.#over.abort();
  }
}

/** Finds the key that leaves, typed twice; the first is held back until the next key. */
class Leaver {
  wantsOut = false;
  #isHeld = false;

  /** What goes on to the program. */
  feed(typed: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of typed) {
      if (byte === LEAVE && this.#isHeld) {
        this.wantsOut = true;
        break;
      }
      if (this.#isHeld) out.push(LEAVE);
      this.#isHeld = byte === LEAVE;
      if (!this.#isHeld) out.push(byte);
    }
    return Uint8Array.from(out);
  }
}

async function aborted(signal: AbortSignal): Promise<undefined> {
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  return undefined;
}
