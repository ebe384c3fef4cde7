// What one sandbox takes now and took so far, with units in the names. Types alone. Invariant: what was not counted is `null`, never a
// zero; `by` says who counted: the kernel's cgroup of the sandbox, or the processes in /proc, where the machine gives no cgroup for it.

/**
 * `proc` is a sum over the processes that live: memory that two of them share counts twice, and of a process that ended and was not waited
 * for its CPU time and traffic are missing.
 */
export type CountedBy = "cgroup" | "proc";

/** Of all processes of one sandbox, what contains it included. */
export interface ContainerUsage {
  readonly cpu: {
    /** Since the sandbox was made or last resumed without its memory. */
    readonly usedMs: number;
    /** How long they were held back by its limit; `null` where that is not counted, as mostly without a limit. */
    readonly throttledMs: number | null;
    readonly by: CountedBy;
  } | null;
  readonly memory: {
    /** By a cgroup with what the kernel holds for it: caches of its files too. */
    readonly bytes: number;
    readonly peakBytes: number | null;
    readonly by: CountedBy;
  } | null;
  /** Processes and threads, without those that only contain it. */
  readonly pids: { readonly count: number; readonly by: CountedBy } | null;
  /** To and from disks. */
  readonly io: { readonly readBytes: number; readonly writtenBytes: number; readonly by: CountedBy } | null;
}

/** Of a sandbox whose processes ended with its pause nothing is counted. */
export interface SandboxMetrics extends ContainerUsage {
  readonly id: string;
  readonly at: string;
  readonly state: "running" | "paused";
  /** Its delta. */
  readonly disk: { readonly bytes: number; readonly entries: number; readonly measuredAt: string } | null;
  /** `null`: no limit, or it has no processes. */
  readonly limits: {
    readonly memoryBytes: number;
    /** Cores. */
    readonly cpus: number | null;
    readonly pids: number;
    readonly diskBytes: number;
    readonly inodes: number;
  } | null;
}
