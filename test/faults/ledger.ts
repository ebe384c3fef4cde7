// What the clients of a fault run were told, and what they asked and were told nothing of. It asks nobody.
// Invariant: a fact stands here only after the server answered for it.

/** A sandbox that a client was told of. */
export interface Known {
  readonly id: string;
  /** Told destroyed, or seen to have ended at its time. */
  isOver: boolean;
  /** Not before, wall clock, ms; `null`: it never ends by itself. */
  endAt: number | null;
  /** What it was made with: the life that whatever resumes it gives it again. */
  readonly lifeMs: number | null;
  mayBePaused: boolean;
  /** By name, the content that it was told written. */
  readonly files: Map<string, string>;
  /** A process that was told started and never ends by itself: its only argument. */
  daemon: string | undefined;
  /** Paused without its processes, at any time: then they are gone. */
  lostProcesses: boolean;
}

/** What a client had under way when the server died. */
export type Pending =
  | {
      readonly kind: "create";
      readonly key: string;
      readonly body: { readonly timeoutMs: number | null; readonly env: Readonly<Record<string, string>> };
    }
  | { readonly kind: "write"; readonly known: Known; readonly file: string }
  | { readonly kind: "destroy" | "renew" | "daemon" | "pause" | "look"; readonly known: Known }
  | { readonly kind: "token" };

export interface Counts {
  kills: number;
  creates: number;
  execs: number;
  writes: number;
  destroys: number;
  pauses: number;
  renewals: number;
  expired: number;
  tokens: number;
  /** Of sandboxes that ran or were paused at a kill and whose time had not come, those that answered afterwards. */
  stood: number;
  adopted: number;
  filesRead: number;
  daemonsSeen: number;
  /** By what was under way. */
  cut: Record<Pending["kind"], number>;
  /** Cut creates: what became of them. */
  cutCreatesRunning: number;
  cutCreatesFailed: number;
  restartsKilled: number;
  longestDownMs: number;
}

export function noCounts(): Counts {
  return {
    kills: 0,
    creates: 0,
    execs: 0,
    writes: 0,
    destroys: 0,
    pauses: 0,
    renewals: 0,
    expired: 0,
    tokens: 0,
    stood: 0,
    adopted: 0,
    filesRead: 0,
    daemonsSeen: 0,
    cut: { create: 0, write: 0, destroy: 0, renew: 0, daemon: 0, pause: 0, look: 0, token: 0 },
    cutCreatesRunning: 0,
    cutCreatesFailed: 0,
    restartsKilled: 0,
    longestDownMs: 0,
  };
}

/** What was promised and does not hold: the run has found something. */
export class Broken extends Error {}
