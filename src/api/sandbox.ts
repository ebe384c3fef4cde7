// The sandbox as clients see it: what is asked for, what is told. Types alone; `Sandbox` has a local and a remote implementation.

import type { SandboxContexts } from "./contexts.ts";
import type { NetworkPolicy } from "./network.ts";
import type { FileCalls } from "./files.ts";
import type { LimitHit } from "./limit-hit.ts";
import type { SandboxMetrics } from "./metrics.ts";
import type { Policy } from "./policy.ts";
import type { SandboxProcesses } from "./processes.ts";
import type { SandboxShells } from "./shells.ts";

export type RuntimeName = "native" | "bwrap";
export type EngineName = "kernel";
/** `auto` takes the kernel engine unless the policy needs what only fuse gives; then create is refused by name. */
export type EngineChoice = "auto" | EngineName;

export interface SandboxLimits {
  readonly memoryBytes?: number;
  /** Cores; 0.5 is half of one. Only slows. */
  readonly cpus?: number;
  readonly pids?: number;
  readonly openFiles?: number;
  /** Bytes of the delta. */
  readonly diskBytes?: number;
  /** Entries of the delta. */
  readonly inodes?: number;
}

/** A stored tree, as whoever looked it up names it. Never taken from a wire. */
export interface StoredRoot {
  /** Whose store it lies in. */
  readonly ownerId: string;
  /** Hash of the root's listing. */
  readonly root: string;
}

/** A version of a stored codebase. */
export interface StoredBase extends StoredRoot {
  readonly codebaseId: string;
  readonly version: number;
}

export interface CreateRequest {
  /** Id that the caller has written down already; absent: a new one. Never taken from a wire. */
  readonly id?: string;
  /** Directory on this machine that becomes the read-only base; absent: an empty one, to which nothing can be committed. */
  readonly codebaseDir?: string;
  /** Instead of a directory. */
  readonly stored?: StoredBase;
  /** Root file system; absent: this machine's programs. */
  readonly template?: StoredRoot;
  readonly policy: Policy;
  readonly engine?: EngineChoice;
  readonly runtime?: RuntimeName;
  readonly limits?: SandboxLimits;
  /** Extra entries for the environment of every command. */
  readonly env?: Readonly<Record<string, string>>;
  /** `ephemeral`: the delta dies with the sandbox. `keep`: it stays until committed or discarded. */
  readonly delta?: "ephemeral" | "keep";
  /** What it may reach outside; default `none`. Secrets of its rules are whoever opens the corral's to give. */
  readonly network?: NetworkPolicy;
}

export interface ExecRequest {
  /** Program and arguments, or a line for `/bin/sh -c`. */
  readonly command: readonly string[] | string;
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute inside the sandbox; default `/workspace`. */
  readonly cwd?: string;
  /** Bytes for stdin; absent means stdin is empty. */
  readonly stdin?: AsyncIterable<Uint8Array> | Uint8Array;
  readonly pty?: { readonly rows: number; readonly cols: number };
  readonly timeoutMs?: number;
  /** Ends the command when it wrote nothing for so long. */
  readonly idleTimeoutMs?: number;
  /** Bytes of stdout and stderr together that are passed on; the rest is read and dropped. `Infinity` passes all. */
  readonly outputBytes?: number;
  /** Receives output as it comes. Awaited, so a slow sink slows the program. Without sinks the result collects. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
  /** Abort = the kill ladder on the whole tree. */
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  /** The program's own; 124 when timed out, 126 not executable, 127 not found, 128 + n when a signal ended it. */
  readonly exitCode: number;
  /** Name of the signal that ended the program, e.g. `SIGKILL`. */
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly limitHit: LimitHit | null;
  /** Collected output; empty when sinks were given. */
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly truncated: boolean;
  readonly durationMs: number;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
}

/** A running command. */
export interface Process {
  readonly pid: number;
  /** Never rejects for what the program did; rejects with `sandbox_lost` or `guest_protocol`. */
  readonly result: Promise<ExecResult>;
  signal(name: string): void;
  resize(rows: number, cols: number): void;
  /** SIGINT, then SIGTERM, then SIGKILL on the whole tree. */
  stop(): void;
}

/** A connection to a port inside. Each direction ends by itself; a slow reader slows the program. */
export interface PortConnection {
  /** Errors with `port_closed`, `sandbox_lost`, `stream_cut`. */
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

export interface SandboxInfo {
  readonly id: string;
  readonly state: "created" | "running" | "paused" | "destroyed" | "failed";
  /** Of a paused one: whether its processes are kept. */
  readonly memory?: boolean;
  readonly runtime: RuntimeName;
  readonly engine: EngineName;
  /** Why this engine and runtime were taken. */
  readonly reasons: readonly string[];
  /** Walls that are missing on this machine, by name; empty is best. */
  readonly weakenings: readonly string[];
  /** Tool directories of the host that the template shows, inside paths. */
  readonly toolDirs: readonly string[];
  /** Stage timings of create, ms. */
  readonly timings: Readonly<Record<string, number>>;
  /** It was started ahead; absent: it was made for whoever asked. */
  readonly source?: "pool";
}

export type ChangeKind = "add" | "modify" | "delete" | "rename" | "mode";
export type ChangeType = "file" | "dir" | "link" | "other";

/** One entry of a delta. `path` begins with `/`; bytes that are not UTF-8, and characters that act on a terminal, stand escaped (`\xNN`, `\n`, `\u{NN}`), a backslash as `\\`. */
export interface Change {
  readonly path: string;
  readonly kind: ChangeKind;
  readonly type: ChangeType;
  /** Old name of a rename. */
  readonly from?: string;
  /** Why a person should look twice, e.g. `runs on the host: npm script`. */
  readonly flag?: string;
}

export interface Refusal {
  readonly path: string;
  readonly reason: string;
}

export interface CommitResult {
  readonly committed: readonly Change[];
  readonly refused: readonly Refusal[];
  readonly conflicts: readonly Refusal[];
  /** Metadata-only changes on paths below `write`: left out, named here; they stop nothing. */
  readonly dropped: readonly Refusal[];
}

/** A live sandbox. Local in sandbox/, remote in sdk/ (later). */
export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  readonly files: FileCalls;
  info(): SandboxInfo;
  /** Also of one that is paused with its memory. */
  metrics(): Promise<SandboxMetrics>;
  exec(request: ExecRequest): Promise<ExecResult>;
  start(request: ExecRequest): Promise<Process>;
  readonly processes: SandboxProcesses;
  readonly shells: SandboxShells;
  readonly contexts: SandboxContexts;
  /** To a port that a program listens on, on the loopback inside. That nothing listens there is told by the connection's error. */
  connect(port: number): Promise<PortConnection>;
  /**
   * `memory`: every process stands still where it is. Without: processes end and kernel objects go, the delta stays; this object is over
   * then and `Corral.paused` knows the sandbox. Throws `sandbox_state`, and `runtime_unavailable` where nothing can freeze.
   */
  pause(memory: boolean): Promise<void>;
  /** Of one that was paused with its memory. */
  resume(): Promise<void>;
  /** Stops every process and takes the kernel objects away. The delta follows `CreateRequest.delta`. Idempotent. */
  destroy(): Promise<void>;
}
