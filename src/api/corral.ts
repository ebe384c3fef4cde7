// The one client that commands see. In this process it is built by main.ts over the data directory; later the SDK speaks HTTP.
// Invariant: a command that needs more than this means that the API lacks something.

import type { NetworkPolicy } from "./network.ts";
import type { Policy, PolicyProblem } from "./policy.ts";
import type { Change, CommitResult, CreateRequest, RuntimeName, Sandbox, SandboxLimits, StoredBase } from "./sandbox.ts";

export interface CommitOptions {
  /** Apply what can be applied and leave out what is refused or in conflict. */
  readonly partial?: boolean;
  /** Also accept entries that carry a flag (code that will run on the host). */
  readonly acceptFlagged?: boolean;
  /** Only these paths. */
  readonly paths?: readonly string[];
}

/** A kept delta: that of a run with `keep`, or of a run that was cut off. */
export interface KeptDelta {
  readonly sandboxId: string;
  /** Empty when it was made over a version of a stored codebase. */
  readonly codebaseDir: string;
  readonly stored?: StoredBase;
  readonly createdAt: string;
  /** True when the run did not end by itself. */
  readonly cutOff: boolean;
}

export interface Deltas {
  list(): Promise<readonly KeptDelta[]>;
  /** Changes sorted by path, and what commit would refuse. Works on a running sandbox's delta too. */
  changes(sandboxId: string): Promise<{ changes: readonly Change[]; refused: readonly { path: string; reason: string }[] }>;
  /** Unified text of the changes as exact bytes, `git apply` can read it; binary files are named only. Hostile: a terminal gets it through `inert`. */
  text(sandboxId: string, paths?: readonly string[]): AsyncIterable<Uint8Array>;
  /** Tar of the changed entries as the merged view shows them. */
  export(sandboxId: string): AsyncIterable<Uint8Array>;
  commit(sandboxId: string, options?: CommitOptions): Promise<CommitResult>;
  discard(sandboxId: string): Promise<void>;
}

/** Sandboxes whose processes were ended and whose delta waits for them: nothing of them is in the kernel. */
export interface PausedSandboxes {
  list(): Promise<readonly string[]>;
  /** Makes it again over its delta, with the id, policy, limits and environment it had. Throws `sandbox_not_found`. */
  resume(id: string): Promise<Sandbox>;
  /** The delta follows `CreateRequest.delta`. Idempotent. */
  destroy(id: string): Promise<void>;
  /** Nobody will ask for it again: its delta is kept as that of a run that was cut off. */
  abandon(id: string): Promise<void>;
}

export interface SnapshotOverrides {
  readonly id?: string;
  /** Those that are named replace the snapshot's. */
  readonly env?: Readonly<Record<string, string>>;
  readonly limits?: SandboxLimits;
  readonly runtime?: RuntimeName;
  readonly delta?: "ephemeral" | "keep";
  readonly network?: NetworkPolicy;
}

/** What a snapshot holds on disk; what several share counts for each of them. */
export interface SnapshotSize {
  readonly bytes: number;
  readonly entries: number;
}

/** The files of sandboxes at one moment, with their codebase, policy, limits and environment. Memory is no part of one. */
export interface Snapshots {
  /** Of a sandbox that lives, which stands still meanwhile, or one that is paused. `passing`: it goes with this process. */
  take(sandboxId: string, snapshotId: string, options?: { readonly passing?: boolean }): Promise<SnapshotSize>;
  /** Ids of those that are whole and go with no process. */
  list(): Promise<readonly string[]>;
  create(snapshotId: string, overrides: SnapshotOverrides): Promise<Sandbox>;
  /** Gives a sandbox that is paused without its processes the files of one of its own snapshots. */
  restore(sandboxId: string, snapshotId: string): Promise<void>;
  /** What was made from it stays whole. Idempotent. */
  remove(snapshotId: string): Promise<void>;
}

export interface PolicyAdditions {
  /** Globs that become `write`, except where the preset hides. */
  readonly allowWrite?: readonly string[];
  /** Globs that become `none`. */
  readonly hide?: readonly string[];
  /** The codebase that the policy is meant for: patterns below `/workspace` are errors unless it has such an entry. */
  readonly codebaseDir?: string;
}

export interface DoctorFinding {
  readonly id: string;
  readonly state: "ok" | "weak" | "missing";
  readonly detail: string;
  /** The command or step that mends it. */
  readonly mend?: string;
}

export interface DoctorReport {
  readonly findings: readonly DoctorFinding[];
  readonly runtimes: Readonly<Record<string, string>>;
  readonly engines: Readonly<Record<string, string>>;
  readonly limits: readonly { readonly name: string; readonly value: string; readonly sandboxes: number | null }[];
  readonly kernel: string;
}

/** What of ours lives in the kernel or on disk now. */
export interface CensusEntry {
  readonly kind: "process" | "cgroup" | "mount" | "socket" | "journal" | "delta";
  readonly name: string;
  readonly sandboxId?: string;
  readonly owned: boolean;
}

export interface PoolPlan {
  /** How many of a kind wait at least, once it was asked for; 0: none is ever started ahead. */
  readonly perTemplate: number;
  /** Of all kinds together. */
  readonly max: number;
  /** After it a kind that nobody asked for is given up. */
  readonly idleMs: number;
}

export interface PoolFigures {
  readonly ready: number;
  readonly hits: number;
  readonly misses: number;
  /** That died, did not answer or grew old. */
  readonly discarded: number;
}

/** Sandboxes started ahead, by kind: a name that the caller chose for what they are made from. Each is used once. */
export interface WarmPool {
  /** Id of one, to `create` with soon or to `drop`; `undefined`: none waits, take a new id. */
  take(kind: string): string | undefined;
  /** Harmless when it was created with, and for any other id. */
  drop(id: string): void;
  /** One was asked for, whether one waited or not: others of the kind are started for those who come next. */
  want(kind: string, what: Pick<CreateRequest, "template" | "limits">, isHit: boolean): void;
  /** Ends what waits of a kind. */
  forget(kind: string): Promise<void>;
  figures(): PoolFigures;
}

/** What the sandboxes of one runtime take together; `null` where this machine does not count it. */
export interface RuntimeUsage {
  /** One view each. */
  readonly sandboxes: number;
  readonly memoryBytes: number | null;
  /** Since the runtime was opened, of ended sandboxes too. */
  readonly cpuSeconds: number | null;
  readonly io: { readonly readBytes: number; readonly writtenBytes: number } | null;
}

export interface Reaped {
  /** Sandboxes whose kernel objects were cleared away. */
  readonly objects: number;
  /** Deltas that are kept for a day from now. */
  readonly deltas: readonly KeptDelta[];
  /** What could not be put right, for a person: a commit that can neither be finished nor taken back. */
  readonly failures: readonly string[];
}

export interface Corral extends AsyncDisposable {
  create(request: CreateRequest): Promise<Sandbox>;
  readonly paused: PausedSandboxes;
  readonly snapshots: Snapshots;
  readonly deltas: Deltas;
  readonly policies: {
    /** Reads a preset name (`agent-safe`, `agent-safe@1`) or a policy file. Throws `preset_unknown` or `policy_invalid`. */
    load(nameOrFile: string, additions?: PolicyAdditions): Promise<Policy>;
    lint(file: string): Promise<readonly PolicyProblem[]>;
    explain(policy: Policy, path: string, dir?: string): Promise<string>;
    check(policy: Policy, dir: string): Promise<string>;
  };
  /** Absent: nothing is started ahead. */
  readonly pool?: WarmPool;
  doctor(): Promise<DoctorReport>;
  census(): Promise<readonly CensusEntry[]>;
  /** By the runtimes that are open; cheap enough to be asked every second. */
  usage(): Promise<ReadonlyMap<RuntimeName, RuntimeUsage>>;
  /** What this start cleared and adopted of runs that were cut off. */
  readonly reaped: Reaped;
}
