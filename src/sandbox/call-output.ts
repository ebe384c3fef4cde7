// What one command of a shell, or one call of code, writes: passed on up to its cap, the rest read and dropped. Not who runs it.
// Invariant: what was dropped is told (`truncated`), and so is the first sink that threw.

import type { RunInShell } from "../api/shells.ts";
import { DEFAULT_OUTPUT_BYTES } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import { Output, passedBytes, type StreamName } from "./output.ts";

export interface OutputHooks {
  readonly clock: Clock;
  readonly credit: (bytes: number) => void;
  /** A sink threw. */
  readonly failed: () => void;
}

type Wanted = Pick<RunInShell, "onStdout" | "onStderr" | "outputBytes">;

export class CallOutput {
  /** Of the first sink that threw. */
  failure: { readonly error: unknown } | undefined;
  readonly #output: Output;
  readonly #hooks: OutputHooks;
  #room: number;
  #dropped = false;

  constructor(wanted: Wanted, hooks: OutputHooks) {
    this.#hooks = hooks;
    const cap = passedBytes(wanted);
    this.#room = cap === 0 ? Infinity : cap;
    const { onStdout, onStderr } = wanted;
    const sinks = { ...(onStdout === undefined ? {} : { onStdout }), ...(onStderr === undefined ? {} : { onStderr }) };
    this.#output = new Output(
      { command: "", outputBytes: DEFAULT_OUTPUT_BYTES, ...sinks },
      { credit: hooks.credit, failed: (error) => this.fail(error) },
    );
  }

  fail(error: unknown): void {
    this.failure ??= { error };
    this.#hooks.failed();
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

  flushed(): Promise<void> {
    return this.#output.flushed();
  }

  /** After `flushed`. */
  get collected(): { readonly truncated: boolean; readonly stdout: Uint8Array; readonly stderr: Uint8Array } {
    return {
      truncated: this.#dropped || this.#output.dropped,
      stdout: this.#output.collected("stdout"),
      stderr: this.#output.collected("stderr"),
    };
  }
}
