// One context: the queue of its calls, and the interpreters that serve it one after the other. Not what an interpreter is: interpreter.ts.
// Invariant: at most one call runs; a call that begins in a new interpreter says why the one before ended; after `close` nothing of it runs.

import type { CodeAnswer, ContextInfo, ContextLanguage } from "../../api/contexts.ts";
import { CorralError } from "../../api/errors.ts";
import { MAX_CONTEXT_QUEUE } from "../../api/limits.ts";
import type { Clock } from "../../base/clock.ts";
import { demandWanted } from "../wanted.ts";
import { ResultCache } from "./result-cache.ts";
import { Call, type CallRequest, type InterpreterEnd } from "./call.ts";

/** What serves a context: an interpreter of ours, or a shell. */
export interface Runner {
  readonly pid: number;
  readonly start: ContextInfo["start"];
  readonly isOver: boolean;
  readonly ended: Promise<InterpreterEnd>;
  run(call: Call, executionCount: number): void;
  credit(bytes: number): void;
  interrupt(orKill?: string): void;
  kill(why: string): void;
}

export interface ContextParts {
  readonly id: string;
  readonly language: ContextLanguage;
  readonly cwd: string;
  readonly createdAt: number;
  readonly clock: Clock;
  readonly begin: () => Promise<Runner>;
}

export class Context {
  readonly id: string;
  readonly language: ContextLanguage;
  readonly cache = new ResultCache();
  readonly #parts: ContextParts;
  readonly #queue: Call[] = [];
  #runner: Runner | undefined;
  #call: Call | undefined;
  #beginning: Promise<void> | undefined;
  /** Why the interpreter before ended, until a call was told. */
  #freshBecause: string | null = null;
  #executions = 0;
  #isClosed = false;

  constructor(parts: ContextParts) {
    this.id = parts.id;
    this.language = parts.language;
    this.#parts = parts;
  }

  /** Its first interpreter. */
  async begin(): Promise<void> {
    await this.#begin();
  }

  info(): ContextInfo {
    const { id, language, cwd, createdAt } = this.#parts;
    const runner = this.#runner;
    const state = runner === undefined || runner.isOver ? "lost" : this.#call === undefined ? "idle" : "busy";
    return {
      ...{ id, language, cwd, state, executionCount: this.#executions, createdAt: new Date(createdAt).toISOString() },
      start: runner?.start ?? { kind: "cold" },
      pid: runner?.pid ?? 0,
    };
  }

  run(request: CallRequest): Promise<CodeAnswer> {
    const { signal } = request;
    demandWanted(signal, "the code was not run: its caller had gone away");
    if (this.#isClosed) throw this.#gone();
    if (this.#queue.length >= MAX_CONTEXT_QUEUE)
      throw new CorralError("limit_reached", `${MAX_CONTEXT_QUEUE} calls wait for the context ${this.id} already; wait for one to end`);
    const call = new Call(request, {
      clock: this.#parts.clock,
      credit: (bytes) => this.#runner?.credit(bytes),
      failed: () => this.#leave(call),
    });
    this.#queue.push(call);
    const leave = (): void => this.#leave(call);
    signal?.addEventListener("abort", leave);
    const settled = (): void => signal?.removeEventListener("abort", leave);
    call.answer.then(settled, settled);
    void this.#next();
    return call.answer;
  }

  interrupt(): void {
    this.#call?.interrupted();
    this.#runner?.interrupt();
  }

  /** A new interpreter under the same id; what waits is run in that. */
  async restart(): Promise<void> {
    if (this.#isClosed) throw this.#gone();
    await this.#end("the context was restarted");
    this.#freshBecause = "the context was restarted";
    await this.#begin();
    void this.#next();
  }

  async close(why = "the context was deleted"): Promise<void> {
    this.#isClosed = true;
    for (const call of this.#queue.splice(0)) call.refuse(this.#gone());
    await this.#end(why);
  }

  async #end(why: string): Promise<void> {
    await this.#beginning?.catch(() => undefined);
    const runner = this.#runner;
    if (runner === undefined || runner.isOver) return;
    this.#call?.interrupted();
    runner.kill(why);
    await runner.ended;
  }

  #leave(call: Call): void {
    const at = this.#queue.indexOf(call);
    if (at >= 0) {
      this.#queue.splice(at, 1);
      call.refuse(new CorralError("canceled", "the code was not run: its caller had gone away"));
    } else if (call === this.#call) {
      call.interrupted();
      this.#runner?.interrupt("it did not mind being interrupted when its caller had gone away");
    }
  }

  #begin(): Promise<void> {
    this.#beginning ??= this.#beginNow().finally(() => (this.#beginning = undefined));
    return this.#beginning;
  }

  async #beginNow(): Promise<void> {
    this.cache.clear();
    const runner = await this.#parts.begin();
    this.#runner = runner;
    void runner.ended.then(({ why }) => {
      if (this.#runner === runner) this.#freshBecause ??= why;
    });
    if (this.#isClosed) runner.kill("the context was deleted");
  }

  async #next(): Promise<void> {
    if (this.#call !== undefined || this.#beginning !== undefined || this.#isClosed || this.#queue.length === 0) return;
    if (this.#runner === undefined || this.#runner.isOver) {
      try {
        await this.#begin();
      } catch (error) {
        const failed =
          error instanceof CorralError ? error : new CorralError("internal", "an interpreter could not be started", { cause: error });
        this.#queue.shift()?.refuse(failed);
        return void this.#next();
      }
      return void this.#next();
    }
    const call = this.#queue.shift();
    if (call !== undefined) this.#run(call, this.#runner);
  }

  #run(call: Call, runner: Runner): void {
    this.#call = call;
    this.#executions += 1;
    const start = { executionCount: this.#executions, freshBecause: this.#freshBecause };
    this.#freshBecause = null;
    const { timeoutMs } = call.request;
    call.begin(start, () => runner.interrupt(`it did not mind being interrupted when ${timeoutMs} ms were over`));
    void call.over.then(() => {
      this.#call = undefined;
      void this.#next();
    });
    runner.run(call, this.#executions);
  }

  #gone(): CorralError {
    return new CorralError("context_not_found", `the context ${this.id} was deleted`);
  }
}
