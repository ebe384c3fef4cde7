// What a turn was asked for besides its input, as it is kept with the turn. Invariant: read back, it is what was written.

import type { CanonValue } from "../canon/expression.ts";

export interface TurnOptions {
  /** `provider/name`; absent: as the type of the session says. */
  readonly model?: string;
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
  /** This turn may cost so much. */
  readonly budgetNano?: number;
  /** The turn that it follows, whatever the head is then; `null`: none. */
  readonly behind?: string | null;
}

/** What the engine reads of a session's settings. */
export interface SessionConfig {
  readonly vars?: Readonly<Record<string, CanonValue>>;
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
}
