// One command in a shell: its output up to the report of its end, its time, its stdin. Not the shell and not the queue: shell.ts.
// Invariant: it settles once, after its sinks have taken all that it wrote.

import type { CorralError } from "../api/errors.ts";
import { DEFAULT_OUTPUT_BYTES } from "../api/limits.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { RunInShell, ShellResult } from "../api/shells.ts";
import type { Clock } from "../base/clock.ts";
import { Output, passedBytes, type StreamName } from "./output.ts";

const EXIT_TIMEOUT = 124;

export interface RunHooks {
  readonly clock: Clock;
  readonly credit: (bytes: number) => void;
  /** A sink threw. */
  readonly failed: () => void;
}

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
  readonly #output: Output;
  readonly #hooks: RunHooks;
  #room: number;
  #dropped = false;
  #startedMs = 0;
  #failure: { readonly error: unknown } | undefined;
  timedOut = false;

  constructor(request: RunInShell, hooks: RunHooks) {
    this.request = request;
    this.#hooks = hooks;
    this.result = this.#settle.promise;
    this.result.catch(() => undefined); // its caller may have gone away
    const cap = passedBytes(request);
    this.#room = cap === 0 ? Infinity : cap;
    const failed = (error: unknown): void => {
      this.#failure ??= { error };
      hooks.failed();
    };
    this.#output = new Output({ command: "", outputBytes: DEFAULT_OUTPUT_BYTES, ...sinksOf(request) }, { credit: hooks.credit, failed });
  }

  begin(): void {
    this.#startedMs = this.#hooks.clock.monotonicMs();
  }

  take(stream: StreamName, chunk: Uint8Array): boolean {
    const taken = Math.min(chunk.length, this.#room);
    this.#room -= taken;
    if (taken < chunk.length) this.#dropped = true;
    if (taken === 0) return true;
    if (this.#output.take(stream, taken === chunk.length ? chunk : chunk.subarray(0, taken))) return true;
    if (taken < chunk.length) this.#hooks.credit(chunk.length - taken);
    return false;
  }

  async end({ exitCode, cwd, closed, limitHit }: RunEnd): Promise<void> {
    const durationMs = this.#hooks.clock.monotonicMs() - this.#startedMs;
    await this.#output.flushed();
    if (this.#failure !== undefined) return this.#settle.reject(this.#failure.error);
    const truncated = this.#dropped || this.#output.dropped;
    this.#settle.resolve({
      exitCode: this.timedOut ? EXIT_TIMEOUT : exitCode,
      cwd,
      timedOut: this.timedOut,
      limitHit: limitHit ?? (truncated ? "output" : null),
      truncated,
      closed,
      durationMs,
      stdout: this.#output.collected("stdout"),
      stderr: this.#output.collected("stderr"),
    });
  }

  refuse(error: CorralError): void {
    this.#settle.reject(error);
  }
}

function sinksOf({ onStdout, onStderr }: RunInShell): Pick<RunInShell, "onStdout" | "onStderr"> {
  return { ...(onStdout === undefined ? {} : { onStdout }), ...(onStderr === undefined ? {} : { onStderr }) };
}
