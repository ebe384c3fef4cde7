// The way out of a sandbox, as whoever judges what goes it gives it. Types alone: what it lets through is decided in another room.
// Invariant: a sandbox without a door has its own loopback and nothing else.

import type { NetworkPolicy } from "../api/network.ts";
import type { MountSpec } from "../view/view.ts";

export interface Door {
  /** Listened on. */
  readonly socket: string;
  /** For every command. */
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly MountSpec[];
}

export interface SandboxDoors {
  /** Before the sandbox is made; again for one that outlived its server. `policy`: of its request, which is its first one. */
  open(sandboxId: string, policy: NetworkPolicy): Promise<Door>;
  /** Once nothing of it runs. Idempotent. */
  close(sandboxId: string): Promise<void>;
}

/** Whether it needs a door. */
export function isNetworked({ network = "none" }: { readonly network?: NetworkPolicy }): boolean {
  return network !== "none";
}
