// What the service tells whoever counts. Types alone. Invariant: no id, owner or path crosses here, so that none can become a label.

import type { ErrorCode } from "../api/errors.ts";
import type { RuntimeName } from "../api/sandbox.ts";

export interface StartSeen {
  readonly source: "cold" | "pool" | "snapshot";
  /** `none`: it failed before one was chosen. */
  readonly runtime: RuntimeName | "none";
  /** Why it failed. */
  readonly failure?: ErrorCode;
}

export interface Meter {
  started(start: StartSeen): void;
}
