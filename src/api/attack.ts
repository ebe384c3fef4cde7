// What `corral doctor --attack` tells: attempts to break out, each with the control that shows that the attempt works where nothing protects.
// Types alone. Invariant: an attempt whose control did not succeed is `void`, never `held`.

import type { RuntimeName } from "./sandbox.ts";

export const ATTACK_CLASSES = [
  "door",
  "resource",
  "process",
  "kernel",
  "file",
  "commit",
  "transfer",
  "egress",
  "control",
  "mcp",
  "dashboard",
  "terminal",
  "interpreter",
  "loom",
  "reuse",
  "covert",
] as const;
export type AttackClass = (typeof ATTACK_CLASSES)[number];

/**
 * `held`: inside and outside as they must be, and the control succeeded. `breached`: anything else happened. `void`: the control did not
 * succeed here. `open`: not promised (SECURITY.md), and found so. `skipped`: not tried, for the reason that is told.
 */
export const ATTACK_RESULTS = ["held", "breached", "void", "open", "skipped"] as const;
export type AttackResult = (typeof ATTACK_RESULTS)[number];

export interface AttackRow {
  /** `class/name`. */
  readonly id: string;
  readonly class: AttackClass;
  /** `server`: of no runtime. */
  readonly runtime: RuntimeName | "server";
  readonly engine: "kernel";
  /** Ways into the sandbox that were tried, joined by `+`. */
  readonly door: string;
  /** Who the attempt is inside. */
  readonly user: "user" | "root";
  readonly result: AttackResult;
  /** Distinct answers of the calls, sorted; absent where the attempt is no list of calls. */
  readonly met?: readonly string[];
  /** Whether the flags outside the sandbox were as before; absent when it was not tried. */
  readonly outside?: "intact" | "changed";
  readonly control: { readonly kind: string; readonly result: "succeeded" | "failed" | "not run" };
  readonly reason?: string;
  readonly ms: number;
}

export interface AttackMachine {
  readonly corral: string;
  /** SHA-256 of the guest program. */
  readonly guest: string;
  readonly date: string;
  readonly kernel: string;
  readonly arch: string;
  readonly distro: string;
  /** Who runs Corral: root of the machine, or an ordinary user. */
  readonly user: "root" | "rootless";
  readonly features: Readonly<Record<string, string>>;
  /** Runtime to what the doctor says of it. */
  readonly runtimes: Readonly<Record<string, string>>;
  /** Walls that are missing here. */
  readonly weakenings: readonly string[];
}

export interface AttackReport {
  /** Rows that are held. */
  readonly passed: number;
  /** Rows that are breached. */
  readonly failed: number;
  readonly skipped: number;
  readonly void: number;
  readonly open: number;
  readonly machine: AttackMachine;
  readonly rows: readonly AttackRow[];
}

export interface AttackRequest {
  /** Absent: every runtime. */
  readonly runtime?: string;
  readonly class?: string;
  readonly id?: string;
  /** Awaited as each row ends. */
  readonly onRow?: (row: AttackRow, done: number, all: number) => Promise<void>;
  /** Ends the run after the row that is under way. */
  readonly signal?: AbortSignal;
}
