// Processes of a sandbox: commands that run beside whoever started them. Nobody has to stay: a client that goes away ends nothing, and
// what is written meanwhile can be read by its offset. Types alone; the same calls in this process, in the service and over HTTP.

import type { CallOptions } from "./calls.ts";
import type { LimitHit } from "./limit-hit.ts";

export interface StartProcessBody {
  /** Program and arguments, or a line for `/bin/sh -c`. */
  readonly command: readonly string[] | string;
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute inside the sandbox; default `/workspace`. */
  readonly cwd?: string;
  /** Open a pipe for `write`; without, and without a terminal, stdin is empty. */
  readonly stdin?: boolean;
  /** A terminal instead of pipes: an interactive shell is a process with one. */
  readonly pty?: { readonly rows: number; readonly cols: number };
  /** Ends it by the kill ladder. Default: never. */
  readonly timeoutMs?: number;
}

export interface ProcessInfo {
  readonly id: string;
  /** As it was given; a long one is cut and then one string. */
  readonly command: readonly string[] | string;
  readonly pid: number;
  readonly pty: boolean;
  readonly startedAt: string;
  /** Offsets of the first byte that can still be read and of the next one to come; stdout and stderr together. */
  readonly output: { readonly from: number; readonly to: number };
  /** `null` while it runs. */
  readonly end: ProcessEnd | null;
}

export interface ProcessEnd {
  /** As of a command: 124 when timed out, 128 + n when a signal ended it. */
  readonly exitCode: number;
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly limitHit: LimitHit | null;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
  /** When this server learned of it. */
  readonly endedAt: string;
}

export interface OutputOptions {
  readonly from?: number;
  /** The process waits for this reader, who misses nothing of what is written from then on, and who stops it by standing still. Default: it
   * waits for nobody. */
  readonly hold?: boolean;
}

export type ProcessOutput =
  | { readonly kind: "stdout" | "stderr"; readonly offset: number; readonly bytes: Uint8Array }
  /** What stood before `offset` can no longer be read. */
  | { readonly kind: "gap"; readonly offset: number }
  /** After its last byte. Nothing follows. */
  | { readonly kind: "end"; readonly process: ProcessInfo };

/** In the process that holds the sandbox. `id`: one that the caller has written down already; never taken from a wire. */
export interface SandboxProcesses extends Omit<ProcessCalls, "start"> {
  start(request: StartProcessBody & { readonly id?: string }): Promise<ProcessInfo>;
}

export interface ProcessCalls {
  /** Throws `exec_failed` when the program cannot be started, `limit_reached` when too many live. */
  start(request: StartProcessBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<ProcessInfo>;
  /** Running ones, and those that ended not long ago; oldest first. */
  list(options?: CallOptions): Promise<{ readonly items: readonly ProcessInfo[] }>;
  get(id: string, options?: CallOptions): Promise<ProcessInfo>;
  /** From an offset (default: the first that is there) until it ends or the caller leaves. */
  output(id: string, options?: CallOptions & OutputOptions): AsyncIterable<ProcessOutput>;
  /** Resolves when all of it was taken. Throws `process_ended`. */
  write(id: string, bytes: Uint8Array, options?: CallOptions & { readonly end?: boolean }): Promise<void>;
  /** To its process group, or with `tree` to all that it started. `name`: such as `SIGTERM`. */
  signal(id: string, name: string, options?: CallOptions & { readonly tree?: boolean }): Promise<void>;
  resize(id: string, size: { readonly rows: number; readonly cols: number }, options?: CallOptions): Promise<void>;
  /** Resolves at its end, or after `timeoutMs` (at most a minute) with how it is then. */
  wait(id: string, options?: CallOptions & { readonly timeoutMs?: number }): Promise<ProcessInfo>;
  /** SIGINT, SIGTERM, SIGKILL on all that it started; resolves at its end. */
  stop(id: string, options?: CallOptions): Promise<ProcessInfo>;
}
