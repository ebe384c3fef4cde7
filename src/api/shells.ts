// Shells of a sandbox: bash that keeps its state from one command to the next. Commands run one at a time, in the order in which they were
// asked for. Types alone. Invariant: the end of a command is told apart from its output, so nothing that a command writes can be mistaken
// for it.

import type { CallOptions } from "./calls.ts";
import type { LimitHit } from "./limit-hit.ts";

export interface OpenShellBody {
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute inside the sandbox; default `/workspace`. */
  readonly cwd?: string;
}

export interface ShellInfo {
  readonly id: string;
  readonly pid: number;
  /** Where the next command begins. */
  readonly cwd: string;
  /** `closed`: it takes no more commands. */
  readonly state: "idle" | "busy" | "closed";
  readonly openedAt: string;
  /** How it ended; `null` while it lives. */
  readonly end: { readonly exitCode: number; readonly signal: string | null } | null;
}

export interface RunInShellBody {
  /** Any number of lines. */
  readonly command: string;
  /** SIGINT after it; a command that does not mind that takes the shell with it. */
  readonly timeoutMs?: number;
  /** Bytes of stdout and stderr together that are passed on; the rest is read and dropped. */
  readonly outputBytes?: number;
}

export interface RunInShell extends RunInShellBody, CallOptions {
  /** Its turn has come. */
  readonly onStarted?: () => void;
  /** What the command reads from its stdin; else that is empty. */
  readonly stdin?: Uint8Array;
  /** Awaited, so a slow sink slows the command. Without sinks the result collects. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
}

export interface ShellResult {
  /** `$?`; 124 when timed out; that of the shell when the command ended it. */
  readonly exitCode: number;
  readonly cwd: string;
  readonly timedOut: boolean;
  readonly limitHit: LimitHit | null;
  readonly truncated: boolean;
  /** The command ended its shell. */
  readonly closed: boolean;
  readonly durationMs: number;
  /** Collected output; empty when sinks were given. */
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** In the process that holds the sandbox. `id`: one that the caller has written down already; never taken from a wire. */
export interface SandboxShells extends Omit<ShellCalls, "open"> {
  open(request?: OpenShellBody & { readonly id?: string }): Promise<ShellInfo>;
}

export interface ShellCalls {
  /** Throws `shell_unavailable` where the sandbox has no bash. */
  open(request?: OpenShellBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<ShellInfo>;
  list(options?: CallOptions): Promise<{ readonly items: readonly ShellInfo[] }>;
  get(id: string, options?: CallOptions): Promise<ShellInfo>;
  /**
   * Waits its turn. Abort while it waits takes it back; while it runs it runs on, unheard. What background jobs write while no command runs
   * is dropped. Throws `shell_closed`.
   */
  run(id: string, request: RunInShell): Promise<ShellResult>;
  /** What Ctrl-C does: SIGINT to the command that runs. */
  interrupt(id: string, options?: CallOptions): Promise<void>;
  /** Ends it and all that it started. Idempotent. */
  close(id: string, options?: CallOptions): Promise<void>;
}
