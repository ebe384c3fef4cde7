// What every noun of the service is built from. Types alone.

import type { Clock } from "../base/clock.ts";
import type { CodebaseStore } from "../codebases/store.ts";
import type { HostCorral } from "../sandbox/corral.ts";
import type { Store } from "../store/store.ts";
import type { Meter } from "./meter.ts";
import type { NodeNetworks } from "./node-networks.ts";
import type { SecretBox } from "./secret-box.ts";

export interface ServiceParts {
  readonly corral: HostCorral;
  readonly store: Store;
  readonly clock: Clock;
  /** Of the data directory: several servers may share one store, and each acts on its own sandboxes alone. */
  readonly nodeId: string;
  /** Their bytes, in the data directory. */
  readonly codebases: CodebaseStore;
  readonly host: HostTools;
  readonly quotas: Quotas;
  readonly meter: Meter;
  /** Of this node. */
  readonly box: SecretBox;
  readonly networks: NodeNetworks;
  /** Absent: those of api/limits.ts. */
  readonly frozen?: FrozenBounds;
}

/** The files of one commit. */
export interface FetchedTree extends AsyncDisposable {
  readonly commit: string;
  tar(): AsyncIterable<Uint8Array>;
}

/** Programs of this machine that make trees. */
export interface HostTools {
  /** For trees that are being made; emptied at the start. */
  readonly buildDir: string;
  readonly git: {
    readonly protocols: readonly ("https" | "file")[];
    /** That keys of scope user may name. */
    readonly hosts: readonly string[];
    /** Throws `git_failed`, `request_invalid`, `runtime_unavailable`. */
    fetch(request: { readonly url: string; readonly ref?: string; readonly depth?: number; readonly dir: string }): Promise<FetchedTree>;
  };
  /** Throws `template_failed`, `runtime_unavailable`, `request_invalid`, `canceled`. */
  debootstrap(request: {
    readonly suite: string;
    readonly variant: string;
    readonly include: readonly string[];
    readonly dir: string;
    readonly onStep: (step: string) => void;
    readonly signal: AbortSignal;
  }): Promise<void>;
}

/** Which paused sandboxes of this node keep their processes. */
export interface FrozenBounds {
  readonly most: number;
  readonly longestMs: number;
  /** Of the node's memory, 0 to 1. */
  readonly leastFreeShare: number;
}

/** Of each owner. */
export interface Quotas {
  /** That live or are being made. */
  readonly sandboxes: number;
  readonly codebases: number;
  readonly snapshots: number;
  /** When they hold so much, no further one is taken. */
  readonly snapshotBytes: number;
}
