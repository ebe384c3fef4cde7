// What one row of the security catalogue is. Rows are data where an attempt is a list of system calls, functions where it is a story.
// Invariant: a row holds only when the attempt met its result inside AND its control shows that the attempt works where nothing protects.

import type { AttackClass } from "../api/attack.ts";
import type { NetworkPolicy } from "../api/network.ts";
import type { Policy } from "../api/policy.ts";
import type { Corral } from "../api/corral.ts";
import type { RuntimeName, Sandbox, SandboxLimits } from "../api/sandbox.ts";
import type { EgressLab } from "./egress-lab.ts";

/**
 * How a control proves that the attempt can succeed: `plain` unsandboxed; `gate` a harmless call past the same permission check answers
 * otherwise outside; `weak:N` in a sandbox without containment step N; `twin` the same without the protected thing; `planted` a flag put
 * where it is reachable is found; `naive` a deliberately naive implementation falls for it; `accept` the harmless neighbour is accepted.
 */
export type ControlKind = "plain" | "gate" | `weak:${number}` | "twin" | "planted" | "naive" | "accept";

export interface BedOptions {
  /** Of one that is gone; absent: a new one. */
  readonly id?: string;
  readonly dir?: string;
  readonly policy?: Policy;
  readonly limits?: SandboxLimits;
  /** With it every sandbox holds a placeholder of `NET_SECRET`. */
  readonly network?: NetworkPolicy;
  readonly weaken?: readonly number[];
}

/** The secret of sandboxes with a network. */
export const NET_SECRET = { name: "API_TOKEN", value: "s3cr3t/canary+value==0123456789" } as const;

/** Where attempts are made: sandboxes of one runtime, and the programs of src/attack/programs. */
export interface Bed {
  readonly runtime: RuntimeName;
  /** A directory of the host that this row alone uses. */
  readonly scratch: string;
  open(options?: BedOptions): Promise<Sandbox>;
  /** Of the sandboxes that leave no step out: their deltas, and what policies are asked. */
  readonly corral: Pick<Corral, "deltas" | "policies">;
  /** What sandboxes with a `network` have outside, and what the proxy told of them. */
  readonly net: EgressLab;
  /** Absolute path on the host of a compiled attempt; it is also in /workspace/.attempts of sandboxes that `open` made without `dir`. */
  program(name: string): string;
  /** Runs argv outside any sandbox, in throwaway namespaces, so that an attempt which succeeds changes nothing that stays. */
  outside(argv: readonly string[], options?: { asUser?: boolean }): Promise<{ exitCode: number; stdout: string; stderr: string }>;
}

interface RowFacts {
  /** `class/name`, as in docs/scoreboard.md. */
  readonly id: `${AttackClass}/${string}`;
  readonly what: string;
  readonly runtimes?: readonly RuntimeName[];
  /** Of no runtime: tried once, in no sandbox. */
  readonly onServer?: true;
  /** Of SPEC.md, what it proves; absent: that attempts are held. */
  readonly promise?: string;
  /** Ways in that the attempt tries; default `exec`. */
  readonly door?: string;
  /** What SECURITY.md does not promise and this row shows: the attempt is expected to get through. */
  readonly open?: string;
  /** Weakenings of a machine that open this row there: the wall cannot be raised, and every sandbox says so. */
  readonly openedBy?: readonly string[];
}

/** Calls of src/attack/programs/calls.c: word → the results that hold. */
export interface CallRow extends RowFacts {
  readonly calls: Readonly<Record<string, readonly string[]>>;
  readonly control: {
    readonly kind: "plain" | "gate" | "accept";
    /** Words whose answer outside must not be one of the holding results. Default: every word. */
    readonly words?: readonly string[];
  };
}

/** Throws when the attempt got through, naming what it reached. */
export interface StoryRow extends RowFacts {
  attempt(bed: Bed): Promise<void>;
  readonly control: {
    readonly kind: ControlKind /** Throws when the attempt did NOT succeed where it should. */;
    prove(bed: Bed): Promise<void>;
  };
}

export type SecurityRow = CallRow | StoryRow;

export const isCallRow = (row: SecurityRow): row is CallRow => "calls" in row;

/** The same results for many words of a call row. */
export const all = (results: readonly string[], ...words: readonly string[]): Record<string, readonly string[]> =>
  Object.fromEntries(words.map((word) => [word, results]));
