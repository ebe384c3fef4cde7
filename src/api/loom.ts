// Words of Loom: worlds and their canon, sessions, branches, turns and what is told of them. Types alone.
// Invariant: times are milliseconds since 1970, money is whole nano-dollars, and no type holds a word of any story.

/** What a world is for: interactive fiction, or a working agent. */
export type WorldKind = "story" | "agent";

/** Something a canon breaks. `line` and `column` count from 1. */
export interface CanonProblem {
  readonly code: CanonProblemCode;
  /** A canon with an error is never used. */
  readonly severity: "error" | "warning";
  /** Path below the world's folder. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export type CanonProblemCode =
  | "missing-section"
  | "empty-section"
  | "duplicate-section"
  | "bad-front-matter"
  | "missing-version"
  | "unknown-reference"
  | "include-missing"
  | "include-cycle"
  | "include-escape"
  | "macro-unknown"
  | "macro-cycle"
  | "macro-arity"
  | "macro-unclosed"
  | "if-unclosed"
  | "expr-bad"
  | "var-unknown"
  | "directive-bad"
  | "rule-unclosed"
  | "too-large";

export type SessionStatus = "active" | "paused" | "completed" | "archived" | "error";

/** `say`: a person's input; `aside`: answered, but no part of the story or task. */
export type TurnKind = "say" | "continue" | "aside" | "edit" | "import";

/** The last five are ends and never change. */
export type TurnState = "queued" | "running" | "waiting" | "done" | "error" | "cancelled" | "interrupted" | "rolled-back";

export type StopReason =
  | "end"
  | "length"
  | "filter"
  | "tool-limit"
  | "error"
  | "timeout"
  | "budget"
  | "cancelled"
  | "interrupted"
  | "unknown"
  | "rolled-back";

/** What a turn does that comes while another one of its session runs or waits. */
export type OnBusy = "reject" | "enqueue" | "interrupt" | "rollback";

/** What becomes of a model call that a crash cut off, whose outcome nobody knows. */
export type OnUnknown = "stop" | "retry";

/** One change of a session; `seq` counts up by one. */
export interface LoomEvent {
  readonly seq: number;
  readonly at: number;
  readonly kind: LoomEventKind;
  readonly turnId?: string;
  readonly actor?: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export type LoomEventKind =
  | "session-create"
  | "session-update"
  | "session-archive"
  | "branch-create"
  | "head-move"
  | "turn-queue"
  | "turn-start"
  | "step-start"
  | "step-end"
  | "attempt-drop"
  | "turn-end";

/** One piece of a turn as it is followed. `cursor`: give it back as `after` to go on behind this piece. */
export type TurnFrame =
  | { readonly kind: "text-chunk" | "reasoning-chunk"; readonly cursor: string; readonly text: string }
  /** What was told of this attempt does not hold; another one follows. */
  | { readonly kind: "attempt-drop"; readonly cursor: string; readonly attempt: number }
  | {
      readonly kind: "turn-end";
      readonly cursor: string;
      readonly state: TurnState;
      readonly stopReason: StopReason;
      readonly at: number;
      readonly error?: { readonly code: string; readonly message: string };
    };

/** A turn that has ended. */
export interface PlayTurn {
  readonly session: string;
  readonly turn: string;
  readonly text: string;
  readonly state: TurnState;
  readonly stopReason: StopReason;
  /** Apart: what the model took, and all the rest. */
  readonly timings: { readonly engineMs: number; readonly providerMs: number };
  readonly error?: { readonly code: string; readonly message: string };
}

export interface PlayBranch {
  readonly name: string;
  readonly head: string | null;
}

/** Worlds that are played in this process. */
export interface LoomHere extends AsyncDisposable {
  /** A session of the folder's canon as it is now. Throws `world_not_found`, `canon_invalid`. */
  begin(dir: string): Promise<{ readonly sessionId: string; readonly worldId: string; readonly canonId: string; readonly name: string }>;
  /** The id of the turn, once it cannot be lost any more. Throws `session_not_found`. */
  send(sessionId: string, input: string): Promise<string>;
  /** The last input once more, as a sibling of its turn. */
  retry(sessionId: string): Promise<string>;
  follow(turnId: string, options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<TurnFrame>;
  ended(turnId: string): Promise<PlayTurn>;
  cancel(turnId: string): Promise<void>;
  undo(sessionId: string): Promise<PlayBranch>;
  redo(sessionId: string): Promise<PlayBranch>;
  goTo(sessionId: string, turnId: string): Promise<PlayBranch>;
  /** From where the session stands; played on from now on. */
  fork(sessionId: string, name: string): Promise<PlayBranch>;
  /** What does not agree with what was said, each in one line; empty: all does. */
  verify(sessionId: string): Promise<readonly string[]>;
  /** Of all calls of the session that have a price. */
  costNano(sessionId: string): Promise<number>;
}
