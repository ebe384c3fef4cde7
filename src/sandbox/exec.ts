// One command in a sandbox: checks the request, runs it in the container, turns the guest's answer into a result.
// Not the owner of the sandbox's life. Invariant: a program failing is a result, never an exception; partial output is kept;
// what ended the command (time, limit, signal, missing program) is told by name.

import { constants } from "node:os";
import { CorralError } from "../api/errors.ts";
import { KILL_GRACE_MS } from "../api/limits.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { ExecRequest, ExecResult, Process } from "../api/sandbox.ts";
import type { Clock } from "../base/clock.ts";
import type { Container, GuestExec, GuestExit, GuestProcess } from "../runtime/runtime.ts";
import { checkExec } from "./exec-request.ts";
import { cwdError, exitCode, startWords } from "./exit-words.ts";
import { Output, passedBytes } from "./output.ts";
import { signalName, signalNumber } from "./signals.ts";

export interface ExecContext {
  readonly container: Container;
  readonly clock: Clock;
  /** Called when the command runs; what it returns is called when it ended. `hit` kills it for a limit of the delta. */
  readonly guard: (hit: (limit: LimitHit) => void) => () => void;
  /** Asked when a command failed: whether the disk of its delta is full. */
  readonly isDiskFull: () => Promise<boolean>;
}

/** Resolves when the command runs, or when it could not be started (its result then says why). Rejects for a wrong request. */
export function startExec(context: ExecContext, request: ExecRequest): Promise<Process> {
  const problem = checkExec(request);
  if (problem !== undefined) return Promise.reject(new CorralError("request_invalid", problem));
  if (request.signal?.aborted === true)
    return Promise.reject(new CorralError("canceled", "the command was not started: its caller had gone away"));
  const started = Promise.withResolvers<Process>();
  const running = new Running(context, request, started.resolve);
  running.result.catch(started.reject);
  return started.promise;
}

class Running implements Process {
  readonly result: Promise<ExecResult>;
  readonly #settle: PromiseWithResolvers<ExecResult>;
  readonly #request: ExecRequest;
  readonly #context: ExecContext;
  readonly #output: Output;
  readonly #guest: GuestProcess;
  readonly #startedMs: number;
  readonly #onStarted: (self: Process) => void;
  readonly #abort = (): void => this.stop();
  #release: () => void = () => undefined;
  #pid = 0;
  #over = false;
  #limitHit: LimitHit | null = null;
  #failure: { readonly error: unknown } | undefined;
  #stdin: AsyncIterator<Uint8Array> | undefined;

  constructor(context: ExecContext, request: ExecRequest, onStarted: (self: Process) => void) {
    this.#context = context;
    this.#request = request;
    this.#onStarted = onStarted;
    this.#settle = Promise.withResolvers();
    this.result = this.#settle.promise;
    this.#startedMs = context.clock.monotonicMs();
    this.#output = new Output(request, { credit: (bytes) => this.#guest.credit(bytes), failed: (error) => this.#fail(error) });
    this.#guest = context.container.exec(this.#guestExec());
    if (this.#over) return; // refused at once: the container was gone
    this.#release = context.guard((limit) => this.#stopFor(limit));
    request.signal?.addEventListener("abort", this.#abort, { once: true });
    if (request.stdin !== undefined) void this.#pump(request.stdin);
  }

  get pid(): number {
    return this.#pid;
  }

  signal(name: string): void {
    const number = signalNumber(name);
    if (!this.#over) this.#guest.signal(number);
  }

  resize(rows: number, cols: number): void {
    if (!this.#over) this.#guest.resize(rows, cols);
  }

  stop(): void {
    if (!this.#over) this.#guest.stop();
  }

  #guestExec(): GuestExec {
    const { command, env = {}, cwd = "/workspace", stdin, pty, timeoutMs = 0, idleTimeoutMs = 0 } = this.#request;
    return {
      argv: typeof command === "string" ? ["/bin/sh", "-c", command] : command,
      env,
      cwd,
      stdin: stdin !== undefined,
      pty: pty ?? null,
      timeoutMs,
      idleTimeoutMs,
      graceMs: KILL_GRACE_MS,
      outputBytes: passedBytes(this.#request),
      onStarted: (pid) => {
        this.#pid = pid;
        this.#onStarted(this);
      },
      onOutput: (stream, chunk) => this.#output.take(stream, chunk),
      onExit: (exit) => void this.#ended(exit),
      onLost: (reason) => this.#lost(reason),
    };
  }

  async #pump(stdin: AsyncIterable<Uint8Array> | Uint8Array): Promise<void> {
    try {
      if (stdin instanceof Uint8Array) {
        await this.#guest.write(stdin);
      } else {
        this.#stdin = stdin[Symbol.asyncIterator]();
        for (let next = await this.#stdin.next(); next.done !== true && !this.#over; next = await this.#stdin.next())
          await this.#guest.write(next.value);
      }
      if (!this.#over) this.#guest.closeStdin();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** A sink or the stdin of the caller threw: the command ends, and the error is the caller's to see. */
  #fail(error: unknown): void {
    if (this.#over) return;
    this.#failure ??= { error };
    this.#guest.stop();
  }

  #stopFor(limit: LimitHit): void {
    if (this.#over || this.#limitHit !== null) return;
    this.#limitHit = limit;
    // No ladder: each second of grace is a second of writing past the limit.
    this.#guest.signal(constants.signals.SIGKILL, true);
  }

  #finish(): void {
    this.#over = true;
    this.#release();
    this.#request.signal?.removeEventListener("abort", this.#abort);
    // Not awaited: a source that waits for a person or a socket may never answer.
    this.#stdin?.return?.(undefined)?.catch(() => undefined);
  }

  #lost(reason: string): void {
    if (this.#over) return;
    this.#finish();
    this.#settle.reject(new CorralError("sandbox_lost", `the sandbox ended while the command ran: ${reason}`));
  }

  async #ended(exit: GuestExit): Promise<void> {
    if (this.#over) return;
    this.#finish();
    const durationMs = this.#context.clock.monotonicMs() - this.#startedMs;
    if (exit.startErrno !== 0) this.#tellMissing(exit.startErrno, exit.cwdFailed);
    // Before the output is flushed: a sink may wait for the start.
    if (!exit.cwdFailed) this.#onStarted(this);
    await this.#output.flushed();
    if (exit.cwdFailed) this.#failure ??= { error: cwdError(this.#request.cwd ?? "/workspace", exit.startErrno) };
    if (this.#failure !== undefined) return this.#settle.reject(this.#failure.error);
    const truncated = exit.truncated || this.#output.dropped;
    const failed = exit.code > 0 && exit.signal === 0;
    if (failed && this.#limitHit === null && (await this.#context.isDiskFull())) this.#limitHit = "disk";
    this.#settle.resolve({
      exitCode: exitCode(exit),
      signal: signalName(exit.signal),
      timedOut: exit.timedOut || exit.idle,
      limitHit: this.#limitHit ?? (exit.memoryHit ? "memory" : exit.pidsHit ? "pids" : truncated ? "output" : null),
      stdout: this.#output.collected("stdout"),
      stderr: this.#output.collected("stderr"),
      truncated,
      durationMs,
      cpuMs: exit.cpuUs / 1000,
      maxRssBytes: exit.maxRssBytes,
    });
  }

  /** What a shell would say, on the command's stderr: without it 127 has no reason. */
  #tellMissing(startErrno: number, cwdFailed: boolean): void {
    if (cwdFailed) return;
    const { command } = this.#request;
    const program = typeof command === "string" ? "/bin/sh" : (command[0] ?? "");
    this.#output.take("stderr", Buffer.from(`corral: ${program}: ${startWords(startErrno)}\n`));
  }
}
