// What every runtime does. Implementations: native/ (our guest) and bwrap/. Each runs test/conformance/runtime.ts.
// A runtime contains processes; it knows no database, no policy and no codebase - a view comes to it as mounts.
// Invariant: nothing hostile runs before the handshake was compared; a wall that is missing is named in `weakenings`.

import type { RuntimeName } from "../api/sandbox.ts";
import type { RuntimeUsage } from "../api/corral.ts";
import type { ContainerUsage } from "../api/metrics.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";
import type { IdMap, MountSpec, OverlayMount, RunTool } from "../view/view.ts";

export interface RuntimeProbe {
  readonly name: RuntimeName;
  readonly available: boolean;
  /** Why it is not available and the command that mends it; empty when available. */
  readonly reason: string;
  /** `root`: trusted overlay, own id range. `rootless`: inside a user namespace. */
  readonly mode: "root" | "rootless";
  readonly weakenings: readonly string[];
  readonly features: Readonly<Record<string, string>>;
}

/** Mounts that no view knows: what the template adds around it. Targets are absolute inside. */
export type SystemMount =
  | {
      readonly kind: "proc";
      readonly target: string;
      /** Names below it that are covered, made read-only, or replaced by a file of this content. */
      readonly hide: readonly string[];
      readonly readOnly: readonly string[];
      readonly files: Readonly<Record<string, string>>;
    }
  | { readonly kind: "devpts" | "dev"; readonly target: string }
  /** A small file laid over one that exists. */
  | { readonly kind: "file"; readonly target: string; readonly mode: number; readonly content: string };

/** Egress of one sandbox (guest/PROTOCOL.md, Egress). Absent: it has its own loopback and nothing else. */
export interface NetworkSpec {
  /**
   * Unix stream socket of the egress proxy, listened on before the sandbox is made: the only way out, and how the proxy knows the sandbox.
   * Its name: at most 64 bytes, no leading dot. Its directory is handed over whole, so nothing else lies in it; both can be used by every
   * user (0711, 0666), and a private directory above keeps the node's other users away. The directory lives as long as the sandbox: a proxy that
   * is started anew makes its socket in the same one.
   */
  readonly socket: string;
  /** What a name is reached at where the proxy's `yes` tells no ports; at most 16. Default 80 and 443. */
  readonly ports?: readonly number[];
}

/** All that contains one sandbox. Paths are host paths, checked by the caller. */
export interface ContainerSpec {
  readonly id: string;
  /** In order; the first is `/`. */
  readonly mounts: readonly (MountSpec | SystemMount)[];
  readonly hostname: string;
  readonly limits: {
    readonly memoryBytes: number;
    readonly cpus: number | null;
    readonly pids: number;
    readonly openFiles: number;
  };
  /** Environment that every command starts from. */
  readonly env: Readonly<Record<string, string>>;
  /** Journal file that the spawner locks for as long as it lives. */
  readonly journalFile: string;
  /** Commands may ask for uid 0 inside (`GuestExec.root`). Where a runtime cannot offer it, create is refused. */
  readonly root?: boolean;
  readonly network?: NetworkSpec;
  /** For negative controls of the security suite alone: numbers of containment steps (threats.md §2) to leave out. */
  readonly weaken?: readonly number[];
}

/** What is compared with a container that is attached to. */
export interface AttachSpec extends Pick<ContainerSpec, "id" | "root" | "weaken"> {
  /** It was made with a network. */
  readonly networked?: boolean;
  /** Variables that it was bound to after it was made. */
  readonly lateEnv?: Readonly<Record<string, string>>;
}

export interface LateSpec {
  readonly mount: OverlayMount;
  readonly env: Readonly<Record<string, string>>;
}

/** Where what comes of a command goes. */
export interface GuestSinks {
  /** A chunk is valid until the call returns. Return `false` to withhold credit until `credit(n)` is called. */
  readonly onOutput: (stream: "stdout" | "stderr", chunk: Uint8Array) => boolean;
  /** Bytes of its control channel, behind all output that it wrote before them; valid until the call returns. */
  readonly onControl?: (chunk: Uint8Array) => void;
  readonly onExit: (exit: GuestExit) => void;
  /** The container is gone, it broke the protocol, or somebody else attached to the command. */
  readonly onLost: (reason: string) => void;
}

export interface GuestExec extends GuestSinks {
  /**
   * Keeps the command beyond this process, for `attach` by a later one: 1 to 64 of `[a-z0-9-]`. A key that is taken is startErrno
   * EEXIST, too many kept ones EAGAIN.
   */
  readonly key?: string;
  /** With `key`: at most 4 KiB that `kept` tells again, to whoever takes the command up. */
  readonly note?: string;
  /** Descriptors 3 (in) and 4 (out) of the command are its control channel. Not with a terminal. */
  readonly control?: boolean;
  readonly argv: readonly string[];
  /** It answers on descriptor 5 to whoever forks from it (`forkOf`); with `control`. */
  readonly forks?: boolean;
  /**
   * Instead of being executed it is a child of this command, which `forks`: argv, env and cwd are not used. startErrno ESRCH: that has ended;
   * ETIMEDOUT: it did not answer; ECHILD: not with a child of its own.
   */
  readonly forkOf?: GuestProcess;
  /** It is killed when the connection to the guest ends: with this process. Not with `key`. */
  readonly tied?: boolean;
  /** A built-in of the guest instead of a program (guest/PROTOCOL.md, Workers). */
  readonly worker?: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** As uid 0 inside, where the container offers it. */
  readonly root?: boolean;
  readonly stdin: boolean;
  readonly pty: { readonly rows: number; readonly cols: number } | null;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly graceMs: number;
  /** Bytes of output to pass on; 0 = all. */
  readonly outputBytes: number;
  readonly onStarted: (pid: number) => void;
}

export interface GuestAttach extends GuestSinks {
  /** Before anything else. `offset` is the one asked for, or the first that is still there: bytes of stdout, stderr and control together. */
  readonly onAttached: (command: { readonly pid: number; readonly offset: number; readonly pty: boolean }) => void;
  /** The container keeps no such command, or no longer. Nothing follows. */
  readonly onUnknown: () => void;
}

/** A kept command as its container tells of it. */
export interface KeptCommand {
  readonly key: string;
  /** What it was started with, or what hostile code made of that. */
  readonly note: string;
  readonly pid: number;
  readonly isRunning: boolean;
  /** Offsets of the first byte of output that is still there, and of the next one to come. */
  readonly from: number;
  readonly to: number;
}

export interface GuestExit {
  /** Exit status, or -1 when a signal ended it or it never started. */
  readonly code: number;
  readonly signal: number;
  /** errno when the program could not be started, else 0. */
  readonly startErrno: number;
  /** The errno is that of entering the working directory (EXIT flag 32). */
  readonly cwdFailed: boolean;
  readonly timedOut: boolean;
  readonly idle: boolean;
  readonly truncated: boolean;
  /** Counters of the sandbox's cgroup rose while the command ran. */
  readonly memoryHit: boolean;
  readonly pidsHit: boolean;
  readonly cpuUs: number;
  readonly maxRssBytes: number;
}

export interface GuestProcess {
  /** Of its connection. */
  readonly id: number;
  write(chunk: Uint8Array): Promise<void>;
  closeStdin(): void;
  /** Throws away what of stdin was not read, also what still waits here, and opens it again. With `control` alone. */
  restartStdin(): void;
  /** Towards descriptor 3. */
  control(chunk: Uint8Array): Promise<void>;
  credit(bytes: number): void;
  /** To the command's process group, or with `tree` to everything it started (SIGNAL scope 1). */
  signal(number: number, tree?: boolean): void;
  /** The kill ladder on the whole tree. */
  stop(): void;
  resize(rows: number, cols: number): void;
}

export interface Container {
  readonly id: string;
  readonly timings: Readonly<Record<string, number>>;
  readonly weakenings: readonly string[];
  /**
   * Gives one that was made without anybody's work what is somebody's: the mount (an overlay below `/`, on a directory that is there) and
   * variables for every command from now on. A network is not among it: a sandbox with one is made cold. Before the first command; a failure leaves it to be destroyed. Throws `runtime_unavailable`
   * where the runtime cannot (`Runtime.late`).
   */
  bind(late: LateSpec): Promise<void>;
  exec(request: GuestExec): GuestProcess;
  /** Resolves when PID 1 has answered; also when it is gone. */
  ping(): Promise<void>;
  /** Kept commands, running or ended, oldest first. */
  kept(): Promise<readonly KeptCommand[]>;
  /** Hears a kept command from `offset` on, up to its end, whoever heard it before. */
  attach(key: string, offset: number, sinks: GuestAttach): GuestProcess;
  /** Lets go of a kept command that ended and whose end was told; harmless for any other. */
  forget(key: string): void;
  /**
   * Every process stands still, PID 1 too, until `thaw`; the time limits of commands stand still with them. What is asked of it
   * meanwhile waits. Throws `runtime_unavailable` where no cgroup can freeze, `sandbox_state` when it does not come to rest.
   */
  freeze(): Promise<void>;
  /** Harmless when it is not frozen. */
  thaw(): Promise<void>;
  /** Also of a frozen one. */
  usage(): Promise<ContainerUsage>;
  /**
   * Kills PID 1 by pidfd; resolves when processes, mounts, cgroups and socket are gone, and with them the trees `scrub`
   * (absolute host paths: a delta, its work directory). Idempotent; the first call's trees and reason count. `why` is what
   * commands that still run are told.
   */
  destroy(scrub?: readonly string[], why?: string): Promise<void>;
  /** Resolves with the reason when the container ends without being asked to. */
  readonly lost: Promise<string>;
}

export interface Runtime extends AsyncDisposable {
  /** The process that its sandboxes live as long as: this one, or a spawner that outlives it. */
  readonly keeper: ProcessIdentity;
  readonly name: RuntimeName;
  readonly probe: RuntimeProbe;
  /** Outside ids that a sandbox of this runtime maps; views are made for them. */
  readonly ids: IdMap;
  create(spec: ContainerSpec): Promise<Container>;
  /** Its containers can be bound after they were made. */
  readonly late: boolean;
  /** Ids that an earlier process left alive for this one and that are neither attached nor cleared yet. */
  readonly adopted: ReadonlySet<string>;
  /** The container behind an adopted id, for new commands; throws after everything of it was taken away when it does not answer as it was made. */
  attach(spec: AttachSpec): Promise<Container>;
  /** Takes away what an earlier process left under this id, whatever lives of it, with the trees `scrub`. Level-triggered. */
  clear(id: string, scrub?: readonly string[]): Promise<void>;
  /** What its containers take together. */
  usage(): RuntimeUsage;
  /** Runs a host-side tool of the guest program with the rights that views and deltas need. */
  readonly tool: RunTool;
}
