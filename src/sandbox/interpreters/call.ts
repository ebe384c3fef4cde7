// One call of code: its output, results and time, up to its end. Not the interpreter that runs it: interpreter.ts.
// Invariant: it settles once, after its sinks have taken all that came of it, results in their order.

import type { CodeAnswer, CodeResult, ContextLanguage, RunCode } from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import type { LimitHit } from "../../api/limit-hit.ts";
import type { Clock } from "../../base/clock.ts";
import { CallOutput, type OutputHooks } from "../call-output.ts";
import type { StreamName } from "../output.ts";
import { type EndMessage, ResultRoom } from "./wire.ts";

/** Why an interpreter ended, in words, and the limit that ended it. */
export interface InterpreterEnd {
  readonly why: string;
  readonly limitHit: LimitHit | null;
  /** The sandbox is gone: nothing can be started again. */
  readonly isLost: boolean;
}

export interface CallStart {
  readonly executionCount: number;
  readonly freshBecause: string | null;
}

/** How a call that was asked to end is told. */
type Cause = "timeout" | "interrupted";

export type CallRequest = RunCode & { readonly language: ContextLanguage };

export class Call {
  readonly answer: Promise<CodeAnswer>;
  readonly request: CallRequest;
  readonly #settle = Promise.withResolvers<CodeAnswer>();
  readonly #over = Promise.withResolvers<void>();
  readonly #output: CallOutput;
  readonly #clock: Clock;
  readonly #results: CodeResult[] = [];
  readonly #resultRoom = new ResultRoom();
  #told: Promise<void> = Promise.resolve();
  #start: CallStart = { executionCount: 0, freshBecause: null };
  #startedMs = 0;
  #cause: Cause | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(request: CallRequest, hooks: OutputHooks) {
    this.request = request;
    this.#clock = hooks.clock;
    this.#output = new CallOutput(request, hooks);
    this.answer = this.#settle.promise;
    this.answer.catch(() => undefined); // its caller may have gone away
  }

  /** Resolves when the interpreter has said or shown its end; the sinks may still be busy. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Its turn has come. `outOfTime` is called when its time is up. */
  begin(start: CallStart, outOfTime: () => void): void {
    this.#start = start;
    this.#startedMs = this.#clock.monotonicMs();
    const { timeoutMs, onStarted } = this.request;
    if (timeoutMs !== undefined)
      this.#timer = setTimeout(() => {
        this.#cause ??= "timeout";
        outOfTime();
      }, timeoutMs);
    onStarted?.(start);
  }

  /** Somebody asked for its end. */
  interrupted(): void {
    this.#cause ??= "interrupted";
  }

  take(stream: StreamName, chunk: Uint8Array): boolean {
    return this.#output.take(stream, chunk);
  }

  /** As `take`, for a giver who waits until it was taken. */
  give(stream: StreamName, chunk: Uint8Array): Promise<void> | undefined {
    return this.take(stream, chunk) ? undefined : this.#output.flushed();
  }

  result(given: CodeResult): void {
    const result = this.#resultRoom.fit(given);
    const { onResult } = this.request;
    if (onResult === undefined) {
      this.#results.push(result);
      return;
    }
    this.#told = this.#told.then(async () => {
      await this.#output.flushed();
      await onResult(result);
    });
    this.#told = this.#told.catch((error: unknown) => this.#output.fail(error));
  }

  /** The interpreter lives on. */
  end({ status, error }: EndMessage): void {
    // Interrupted by nobody: the code raised it by itself.
    const told = this.#cause === "timeout" ? "timeout" : status === "interrupted" ? (this.#cause ?? "error") : status;
    void this.#finish({ ...{ status: told, error }, stateLost: false, limitHit: null });
  }

  died({ why, limitHit, isLost }: InterpreterEnd): void {
    if (isLost) return this.refuse(new CorralError("sandbox_lost", `the sandbox ended while the code ran: ${why}`));
    const status = this.#cause ?? "died";
    const value = `the interpreter ended while the code ran: ${why}`;
    const error = { name: "InterpreterEnded", value, traceback: "" };
    void this.#finish({ ...{ status, error, limitHit }, stateLost: true });
  }

  refuse(error: CorralError): void {
    clearTimeout(this.#timer);
    this.#over.resolve();
    this.#settle.reject(error);
  }

  async #finish(end: Pick<CodeAnswer, "status" | "error" | "stateLost" | "limitHit">): Promise<void> {
    clearTimeout(this.#timer);
    const durationMs = this.#clock.monotonicMs() - this.#startedMs;
    this.#over.resolve();
    await this.#output.flushed();
    await this.#told;
    if (this.#output.failure !== undefined) return this.#settle.reject(this.#output.failure.error);
    const { truncated, stdout, stderr } = this.#output.collected;
    this.#settle.resolve({
      ...end,
      ...this.#start,
      limitHit: end.limitHit ?? (truncated ? "output" : null),
      truncated,
      cached: false,
      durationMs,
      stdout,
      stderr,
      results: this.#results,
    });
  }
}
