// The audit log: who asked for what, and what came of it. Types alone. Invariant: no key, environment, command or content is in it.

import type { PageOptions } from "./calls.ts";
import type { ListOf } from "./server.ts";

export interface AuditResource {
  /** Of digits; the cursor of what follows. */
  readonly id: string;
  readonly at: string;
  /** Empty: who asked had no key that holds. */
  readonly ownerId: string;
  readonly tokenId: string;
  /** Nouns and verb of the call: `sandbox-create`, `sandbox-delta-commit`, `token-delete`. */
  readonly action: string;
  /** Id of what it was asked for; empty where there is none. */
  readonly subjectId: string;
  /** `ok`, or the code of the error. */
  readonly outcome: string;
  readonly requestId: string;
  /** Refusals without a key that this row stands for. */
  readonly count?: number;
}

export interface AuditCalls {
  /** Oldest first; of the owner, of all owners with a key of scope `admin`. A key for one sandbox sees none. */
  list(options?: PageOptions & { readonly subjectId?: string }): Promise<ListOf<AuditResource>>;
}
