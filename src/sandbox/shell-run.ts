// One command in a shell: its output up to the report of its end, its time, its stdin. Not the shell and not the queue: shell.ts.
// Invariant: it settles once, after its sinks have taken all that it wrote.

import type { CorralError } from "../api/errors.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { RunInShell, ShellResult } from "../api/shells.ts";
import type { Clock } from "../base/clock.ts";
import { CallOutput, type OutputHooks } from "./call-output.ts";
import type { StreamName } from "./output.ts";

const EXIT_TIMEOUT = 124;

export interface RunEnd {
  readonly exitCode: number;
  readonly cwd: string;
  readonly closed: boolean;
  readonly limitHit: LimitHit | null;
}

export class ShellRun {
  readonly result: Promise<ShellResult>;
  readonly request: RunInShell;
  readonly #settle = Promise.withResolvers<ShellResult>();
  readonly #output: CallOutput;
  readonly #clock: Clock;
  #startedMs = 0;
  timedOut = false;

  constructor(request: RunInShell, hooks: OutputHooks) {
    this.request = request;
    this.#clock = hooks.clock;
    this.#output = new CallOutput(request, hooks);
    this.result = this.#settle.promise;
    this.result.catch(() => undefined); // its caller may have gone away
  }

  begin(): void {
    this.#startedMs = this.#clock.monotonicMs();
  }

  take(stream: StreamName, chunk: Uint8Array): boolean {
    return this.#output.take(stream, chunk);
  }

  async end({ exitCode, cwd, closed, limitHit }: RunEnd): Promise<void> {
    const durationMs = this.#clock.monotonicMs() - this.#startedMs;
    await this.#output.flushed();
    if (this.#output.failure !== undefined) return this.#settle.reject(this.#output.failure.error);
    const { truncated, stdout, stderr } = this.#output.collected;
    this.#settle.resolve({
      exitCode: this.timedOut ? EXIT_TIMEOUT : exitCode,
      cwd,
      timedOut: this.timedOut,
      limitHit: limitHit ?? (truncated ? "output" : null),
      truncated,
      closed,
      durationMs,
      stdout,
      stderr,
    });
  }

  refuse(error: CorralError): void {
    this.#settle.reject(error);
  }
}
