// The audit log: who asked for what, and what came of it. Types alone. Invariant: no key, environment, command or content is in it.

import type { PageOptions } from "./calls.ts";
import type { NetworkVerdict } from "./network.ts";
import type { ListOf } from "./server.ts";

export interface AuditResource {
  /** Of digits; the cursor of what follows. */
  readonly id: string;
  readonly at: string;
  /** Empty: who asked had no key that holds. Of `sandbox-egress`: the sandbox's owner. */
  readonly ownerId: string;
  readonly tokenId: string;
  /** Nouns and verb of the call: `sandbox-create`, `sandbox-delta-commit`, `token-delete`; `sandbox-egress`: a program wanted out and was refused. */
  readonly action: string;
  /** Id of what it was asked for; empty where there is none. */
  readonly subjectId: string;
  /** `ok`, or the code of the error; of `sandbox-egress` the reason (`NetworkReason`). */
  readonly outcome: string;
  readonly requestId: string;
  /** Refusals that this row stands for: without a key, or of one sandbox. */
  readonly count?: number;
  readonly egress?: RefusedEgress;
}

/** Of `sandbox-egress`: what was wanted, the rule that did not do (absent: none named it), and the program as the sandbox tells it: hostile. */
export type RefusedEgress = Pick<NetworkVerdict, "host" | "port" | "rule" | "process" | "version">;

export interface AuditCalls {
  /** Oldest first; of the owner, of all owners with a key of scope `admin`. A key for one sandbox sees none. */
  list(options?: PageOptions & { readonly subjectId?: string }): Promise<ListOf<AuditResource>>;
}
