// Snapshots as clients see them: the files of a sandbox at one moment, under an id of their own. Types alone.
// Invariant: memory is no part of one; what is made from it has no process of the sandbox that it is of.

import type { CallOptions, ListOf, PageOptions } from "./calls.ts";
import type { CreateSandboxBody } from "./server.ts";

export interface TakeSnapshotBody {
  /** For people; need not be unique. */
  readonly name?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface SnapshotResource {
  readonly id: string;
  readonly ownerId: string;
  /** Of which it was taken. */
  readonly sandboxId: string;
  /** Empty where none was given. */
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The stored codebase that it stands on. */
  readonly codebase?: { readonly id: string; readonly version: number };
  /** What it holds on disk; what several share counts for each of them. */
  readonly bytes: number;
  readonly createdAt: string;
}

/** Everything that is not named is as in the sandbox that is forked, but its life and its public ports. */
export interface ForkBody extends Pick<CreateSandboxBody, "env" | "limits" | "metadata" | "timeoutMs" | "onTimeout" | "publicPorts"> {
  /** How many, at most MAX_BATCH; default 1. */
  readonly count?: number;
}

export interface RestoreBody {
  readonly snapshotId: string;
}

export interface ListSnapshotsOptions extends PageOptions {
  /** Only of this sandbox. */
  readonly sandboxId?: string;
  readonly name?: string;
}

export interface SnapshotCalls {
  get(id: string, options?: CallOptions): Promise<SnapshotResource>;
  /** Newest first. */
  list(options?: ListSnapshotsOptions): Promise<ListOf<SnapshotResource>>;
  /** Throws `snapshot_state` while a sandbox that was made from it, or restored to it, lives. */
  delete(id: string, options?: CallOptions): Promise<void>;
}
