// Takes the output of one command: hands it to the caller's sinks one chunk at a time, or keeps it for the result.
// Not a filter: bytes pass unchanged. Invariant: credit goes back to the guest only for bytes that a sink has finished with, so a
// slow reader stops the program instead of filling this process.

import { DEFAULT_OUTPUT_BYTES } from "../api/limits.ts";
import type { ExecRequest } from "../api/sandbox.ts";

export type StreamName = "stdout" | "stderr";
type Sink = (chunk: Uint8Array) => void | Promise<void>;

interface Waiting {
  readonly sink: Sink;
  readonly chunk: Uint8Array;
}

export interface OutputHooks {
  /** Bytes that a sink took after it was waited for. */
  readonly credit: (bytes: number) => void;
  /** A sink threw. */
  readonly failed: (error: unknown) => void;
}

const NOTHING = new Uint8Array();

/** Bytes that the guest is asked to pass on; 0 = all. */
export function passedBytes(request: Pick<ExecRequest, "outputBytes" | "onStdout" | "onStderr">): number {
  if (request.outputBytes !== undefined) return Number.isFinite(request.outputBytes) ? request.outputBytes : 0;
  return request.onStdout === undefined && request.onStderr === undefined ? DEFAULT_OUTPUT_BYTES : 0;
}

export class Output {
  readonly #sinks: Readonly<Record<StreamName, Sink | undefined>>;
  readonly #kept: Record<StreamName, Uint8Array[]> = { stdout: [], stderr: [] };
  /** Room for what is collected where the guest passes all because the other stream has a sink. */
  #room: number;
  #dropped = false;
  readonly #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  readonly #hooks: OutputHooks;

  constructor(request: ExecRequest, hooks: OutputHooks) {
    this.#sinks = { stdout: request.onStdout, stderr: request.onStderr };
    this.#room = request.outputBytes ?? DEFAULT_OUTPUT_BYTES;
    this.#hooks = hooks;
  }

  get dropped(): boolean {
    return this.#dropped;
  }

  /** Takes a chunk that is valid until this returns. `false`: credit for it follows later. */
  take(stream: StreamName, bytes: Uint8Array): boolean {
    const sink = this.#sinks[stream];
    if (sink === undefined) {
      this.#keep(stream, bytes);
      return true;
    }
    const chunk = Uint8Array.from(bytes);
    if (this.#draining !== undefined) {
      this.#waiting.push({ sink, chunk });
      return false;
    }
    const pending = this.#offer(sink, chunk);
    if (pending === undefined) return true;
    this.#draining = this.#drain(pending, chunk.length);
    return false;
  }

  /** Resolves when every sink has taken what it was given. */
  async flushed(): Promise<void> {
    await this.#draining;
  }

  collected(stream: StreamName): Uint8Array {
    const [first, ...more] = this.#kept[stream];
    if (first === undefined) return NOTHING;
    return more.length === 0 ? first : Buffer.concat(this.#kept[stream]);
  }

  #keep(stream: StreamName, bytes: Uint8Array): void {
    const taken = Math.min(bytes.length, this.#room);
    if (taken < bytes.length) this.#dropped = true;
    if (taken === 0) return;
    this.#room -= taken;
    this.#kept[stream].push(Uint8Array.from(taken === bytes.length ? bytes : bytes.subarray(0, taken)));
  }

  #offer(sink: Sink, chunk: Uint8Array): Promise<void> | undefined {
    try {
      return sink(chunk) ?? undefined;
    } catch (error) {
      this.#hooks.failed(error);
      return undefined;
    }
  }

  async #drain(first: Promise<void>, bytes: number): Promise<void> {
    await this.#settle(first);
    this.#hooks.credit(bytes);
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const pending = this.#offer(next.sink, next.chunk);
      if (pending !== undefined) await this.#settle(pending);
      this.#hooks.credit(next.chunk.length);
    }
    this.#draining = undefined;
  }

  async #settle(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      this.#hooks.failed(error);
    }
  }
}
