// Deltas as a client asks for them: what a sandbox changed, as a list, as text, as a tar; and its end, committed or discarded.
// Types alone. Invariant: it works the same on a sandbox that lives and on one that ended and left its delta (`delta: "keep"`).

import type { CallOptions, PageOptions } from "./calls.ts";
import type { CommitOptions } from "./corral.ts";
import type { Change, CommitResult, Refusal } from "./sandbox.ts";
import type { ListOf } from "./server.ts";

export interface DeltaReport {
  /** Sorted by path; the first MAX_TOLD_CHANGES. */
  readonly changes: readonly Change[];
  /** What commit would refuse; the first MAX_TOLD_CHANGES. */
  readonly refused: readonly Refusal[];
  /** Of all, also of those that are not in the lists. */
  readonly counts: { readonly changes: number; readonly refused: number };
}

/** Each list holds the first MAX_TOLD_CHANGES. */
export interface CommitReport extends CommitResult {
  readonly counts: Readonly<Record<keyof CommitResult, number>>;
}

export interface KeptDeltaResource {
  readonly sandboxId: string;
  /** `null`: of a run without a server, over the same data directory. */
  readonly ownerId: string | null;
  /** Directory of the server's machine that it was made over; told to keys of scope `admin`. */
  readonly codebaseDir?: string;
  readonly createdAt: string;
  /** True when the sandbox did not end by itself. */
  readonly cutOff: boolean;
}

export interface DeltaCalls {
  changes(options?: CallOptions): Promise<DeltaReport>;
  /** Unified text of the changes (of `paths` alone) as exact bytes, for `git apply`. Hostile: make it inert before a terminal shows it. */
  text(options?: CallOptions & { readonly paths?: readonly string[] }): AsyncIterable<Uint8Array>;
  /** Tar of the changed entries. Hostile: whoever unpacks it unpacks what a sandbox made. */
  export(options?: CallOptions): AsyncIterable<Uint8Array>;
  /** All or nothing unless `partial`. `commit_refused` and `commit_conflict` name the entries in `details`. */
  commit(options?: CallOptions & CommitOptions): Promise<CommitReport>;
  /** Of a sandbox that has ended. */
  discard(options?: CallOptions): Promise<void>;
}

export interface KeptDeltaCalls {
  /** Kept deltas of the owner (of all owners with a key of scope `admin`), oldest first. */
  list(options?: PageOptions): Promise<ListOf<KeptDeltaResource>>;
}
