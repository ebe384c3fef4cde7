// Contexts of a sandbox: interpreters that keep their state from one call to the next, and calls of code that need none. Calls of one context run
// one at a time, in the order in which they were asked for; contexts run beside each other. Types alone. Invariant: what a program prints is
// never taken for what its interpreter tells of it.

import type { CallOptions } from "./calls.ts";
import type { LimitHit } from "./limit-hit.ts";

export type ContextLanguage = "python" | "javascript" | "typescript" | "bash";

export const CONTEXT_LANGUAGES = ["python", "javascript", "typescript", "bash"] as const satisfies readonly ContextLanguage[];

/** What Python has imported before the first call, where it is there, unless a server says otherwise. */
export const PYTHON_MODULES = [
  "json",
  "re",
  "math",
  "random",
  "datetime",
  "collections",
  "itertools",
  "functools",
  "asyncio",
  "numpy",
] as const;

export interface CreateContextBody {
  /** Default `python`. */
  readonly language?: ContextLanguage;
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute inside the sandbox; default `/workspace`. */
  readonly cwd?: string;
}

export interface ContextInfo {
  readonly id: string;
  readonly language: ContextLanguage;
  /** Where it began. */
  readonly cwd: string;
  /** `lost`: its interpreter has ended; the next call begins with a new one, and says so. */
  readonly state: "idle" | "busy" | "lost";
  /** Calls that were begun since it was created. */
  readonly executionCount: number;
  readonly createdAt: string;
  /** How its interpreter began: forked from one that had imported the common modules already, or started from nothing; and why not forked. */
  readonly start: { readonly kind: "fork" | "cold"; readonly reason?: string };
  readonly pid: number;
}

export interface RunCodeBody {
  readonly code: string;
  /** What `input()` and stdin read. Absent: there is nothing to read, and `input()` says so. */
  readonly input?: string;
  /** Variables for this call alone; then the context's own are back. */
  readonly env?: Readonly<Record<string, string>>;
  /** Then it is interrupted; what does not mind that takes its interpreter with it (`stateLost`). */
  readonly timeoutMs?: number;
  /** Bytes of stdout and stderr together that are passed on; the rest is read and dropped. */
  readonly outputBytes?: number;
  /**
   * Answer with what the same code, input and variables gave before, if nothing else was run in the context since; without a context, whenever
   * that was. For code that depends on nothing outside and changes nothing.
   */
  readonly cache?: boolean;
}

/** By MIME type. Text is a string, binary types are base64, JSON types are the value itself. */
export type MimeBundle = Readonly<Record<string, unknown>>;

export interface CodeResult {
  readonly mime: MimeBundle;
  /** The value of the last expression; else something that the code displayed. */
  readonly isMain: boolean;
}

export interface CodeError {
  /** Of the exception: `ValueError`. */
  readonly name: string;
  readonly value: string;
  /** Of the caller's code alone, without colours. */
  readonly traceback: string;
}

export type CodeStatus = "ok" | "error" | "timeout" | "interrupted" | "died";

/** What is told at the end of a call. */
export interface CodeEnd {
  /** `died`: the interpreter ended under the code, by a crash, an exit or a limit. */
  readonly status: CodeStatus;
  readonly error: CodeError | null;
  /** What earlier calls left in the context is gone: its interpreter ended. */
  readonly stateLost: boolean;
  /** The call began in a new interpreter because the one before had ended; why. */
  readonly freshBecause: string | null;
  readonly executionCount: number;
  readonly limitHit: LimitHit | null;
  readonly truncated: boolean;
  /** Nothing was run: the answer is that of an earlier call. */
  readonly cached: boolean;
  readonly durationMs: number;
}

export interface CodeAnswer extends CodeEnd {
  /** Collected; empty when sinks were given. */
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly results: readonly CodeResult[];
}

export interface CodeSinks {
  /** Its turn has come. */
  readonly onStarted?: (start: { readonly executionCount: number; readonly freshBecause: string | null }) => void;
  /** Awaited, so a slow sink slows the code. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
  /** Behind all output that was written before it. */
  readonly onResult?: (result: CodeResult) => void | Promise<void>;
}

/** Abort while it waits takes it back; while it runs it is interrupted. */
export interface RunCode extends RunCodeBody, CodeSinks, CallOptions {}

/** Without a context: in a new interpreter, which ends with the call. Any number run at once. */
export interface RunAlone extends RunCode, Pick<CreateContextBody, "language" | "cwd"> {}

export interface ContextCalls {
  /** Throws `context_unavailable` where the sandbox has no such interpreter, `limit_reached`. */
  create(body?: CreateContextBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<ContextInfo>;
  /** In the order in which they were created. */
  list(options?: CallOptions): Promise<{ readonly items: readonly ContextInfo[] }>;
  get(id: string, options?: CallOptions): Promise<ContextInfo>;
  run(id: string, request: RunCode): Promise<CodeAnswer>;
  runAlone(request: RunAlone): Promise<CodeAnswer>;
  /** What Ctrl-C does: to the call that runs, if any. The state stays. */
  interrupt(id: string, options?: CallOptions): Promise<void>;
  /** A new interpreter under the same id; a call that runs is ended. */
  restart(id: string, options?: CallOptions): Promise<ContextInfo>;
  /** Ends it and all that it started. Idempotent. */
  delete(id: string, options?: CallOptions): Promise<void>;
}

/** In the process that holds the sandbox. `id`: one that the caller has written down already; never taken from a wire. */
export interface SandboxContexts extends Omit<ContextCalls, "create"> {
  create(request?: CreateContextBody & { readonly id?: string }): Promise<ContextInfo>;
}
