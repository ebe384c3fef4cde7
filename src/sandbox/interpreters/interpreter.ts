// One interpreter process inside the sandbox: its beginning, one call at a time, its interruption and its end. Not the queue of calls and not
// what a context outlives: context.ts. Invariant: an answer is believed only under the word that its call was sent with; an interpreter that
// says what ours do not say, or does not come back from an interruption, is killed; its end is told once.

import { constants } from "node:os";
import type { ContextInfo } from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import { CONTEXT_START_MS, INTERRUPT_GRACE_MS, KILL_GRACE_MS } from "../../api/limits.ts";
import type { LimitHit } from "../../api/limit-hit.ts";
import { randomText } from "../../base/random-text.ts";
import type { Container, GuestExec, GuestExit, GuestProcess } from "../../runtime/runtime.ts";
import { cwdError } from "../exit-words.ts";
import { Pace } from "../pace.ts";
import { signalName } from "../signals.ts";
import type { Call, InterpreterEnd } from "./call.ts";
import { encoded, type EndMessage, framed, MessageReader, WORD_LENGTH } from "./wire.ts";

const { SIGINT, SIGKILL } = constants.signals;

/** What is started, and the code that it is sent first. */
export interface Program {
  readonly exec: Pick<GuestExec, "argv" | "forks" | "forkOf">;
  /** Absent: what it is forked from has it. */
  readonly source?: Uint8Array;
  readonly settings: object;
  readonly startError: (exit: GuestExit, cwd: string) => CorralError;
  readonly start: ContextInfo["start"];
  /** For errors: `python3`. */
  readonly name: string;
}

export interface InterpreterParts {
  readonly container: Container;
  readonly program: Program;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly guard: (hit: (limit: LimitHit) => void) => () => void;
}

export class Interpreter {
  readonly ended: Promise<InterpreterEnd>;
  readonly #ended = Promise.withResolvers<InterpreterEnd>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #parts: InterpreterParts;
  readonly #reader = new MessageReader();
  /** Of what is written while no call runs. */
  readonly #pace = new Pace({ credit: (bytes) => this.#guest?.credit(bytes) });
  readonly #release: () => void;
  #guest: GuestProcess | undefined;
  #call: Call | undefined;
  #grace: NodeJS.Timeout | undefined;
  #why: string | undefined;
  #limitHit: LimitHit | null = null;
  #isOver = false;
  pid = 0;

  private constructor(parts: InterpreterParts) {
    this.#parts = parts;
    this.ended = this.#ended.promise;
    this.#release = parts.guard((limit) => this.#killFor(limit));
  }

  /** Resolves when it has answered once. Throws `context_unavailable`, `exec_failed`, `sandbox_lost`. */
  static async begin(parts: InterpreterParts): Promise<Interpreter> {
    const made = new Interpreter(parts);
    made.#start();
    const timer = setTimeout(() => made.kill(`it did not answer within ${CONTEXT_START_MS} ms`), CONTEXT_START_MS);
    try {
      await made.#ready.promise;
    } finally {
      clearTimeout(timer);
    }
    return made;
  }

  get start(): ContextInfo["start"] {
    return this.#parts.program.start;
  }

  credit(bytes: number): void {
    this.#guest?.credit(bytes);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** For others to fork from. */
  get guest(): GuestProcess | undefined {
    return this.#guest;
  }

  /** One at a time. What comes of it is told to `call`, its end too. */
  run(call: Call, executionCount: number): void {
    const { code, input, env, language } = call.request;
    const word = randomText(WORD_LENGTH);
    this.#call = call;
    this.#reader.expect(word);
    this.#send({ word, op: "run", code, count: executionCount, language, ...(input === undefined ? {} : { input }), env: env ?? {} });
  }

  /** SIGINT to what runs. Unless it ends by that, `orKill` says why it is killed then. */
  interrupt(orKill?: string): void {
    if (this.#call === undefined) return;
    this.#guest?.signal(SIGINT);
    if (orKill !== undefined) this.#grace ??= setTimeout(() => this.kill(orKill), INTERRUPT_GRACE_MS);
  }

  /** It and all that it started. */
  kill(why: string): void {
    if (this.#isOver) return;
    this.#why ??= why;
    this.#guest?.signal(SIGKILL, true);
    this.#guest?.stop();
  }

  #killFor(limit: LimitHit): void {
    this.#limitHit ??= limit;
    this.kill(`it passed the ${limit} limit of the sandbox`);
  }

  #start(): void {
    const { container, program, env, cwd } = this.#parts;
    const word = randomText(WORD_LENGTH);
    this.#reader.expect(word);
    const guest = container.exec({
      ...program.exec,
      ...{ env, cwd, stdin: false, pty: null, control: true, tied: true },
      ...{ timeoutMs: 0, idleTimeoutMs: 0, graceMs: KILL_GRACE_MS, outputBytes: 0 },
      onStarted: (pid) => {
        this.#guest = guest;
        this.pid = pid;
        if (program.source !== undefined) void guest.control(framed(program.source));
        this.#send({ word, ...program.settings });
      },
      onOutput: (stream, chunk) => this.#call?.take(stream, chunk) ?? this.#pace.take(chunk.length),
      onControl: (chunk) => this.#heard(chunk),
      onExit: (exit) => this.#exited(exit),
      onLost: (reason) => this.#over({ why: `the sandbox ended: ${reason}`, limitHit: null, isLost: true }),
    });
  }

  #send(message: object): void {
    void this.#guest?.control(encoded(message));
  }

  #heard(chunk: Uint8Array): void {
    const messages = this.#reader.push(chunk);
    if (messages === undefined) return this.kill("it told what cannot be a result");
    for (const message of messages) {
      if (message.kind === "result") this.#call?.result(message.result);
      else if (this.#call === undefined) this.#begun(message);
      else this.#answered(this.#call, message);
    }
  }

  #begun({ status, error }: EndMessage): void {
    if (status === "ok") this.#ready.resolve();
    else this.#ready.reject(cwdError(this.#parts.cwd, Number(error?.value)));
  }

  #answered(call: Call, message: Parameters<Call["end"]>[0]): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
    this.#call = undefined;
    this.#reader.expect("");
    call.end(message);
  }

  #exited(exit: GuestExit): void {
    if (exit.startErrno !== 0) {
      this.#ready.reject(this.#parts.program.startError(exit, this.#parts.cwd));
      return this.#over({ why: "it could not be started", limitHit: null, isLost: false });
    }
    const limitHit = this.#limitHit ?? (exit.memoryHit ? "memory" : exit.pidsHit ? "pids" : null);
    const how = exit.signal === 0 ? `exit ${exit.code}` : (signalName(exit.signal) ?? "a signal");
    const why = this.#why ?? (exit.memoryHit ? `it passed the memory limit of the sandbox (${how})` : `it ended by ${how}`);
    this.#over({ why, limitHit, isLost: false });
  }

  #over(end: InterpreterEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#grace);
    this.#pace.stop();
    this.#release();
    const { name } = this.#parts.program;
    this.#ready.reject(
      end.isLost
        ? new CorralError("sandbox_lost", end.why)
        : new CorralError("context_unavailable", `${name} ended before it could take code: ${end.why}`),
    );
    this.#ready.promise.catch(() => undefined);
    const call = this.#call;
    this.#call = undefined;
    call?.died(end);
    this.#ended.resolve(end);
  }
}
