// What happened, as a client follows it: one record a change of a noun. Types alone.
// Invariant: ids grow in the order in which events are told; who goes on behind the last one seen misses none that is still kept.

import type { CallOptions, PageOptions } from "./calls.ts";
import type { ListOf } from "./server.ts";

export interface EventResource {
  /** Of digits; where to go on from. */
  readonly id: string;
  readonly at: string;
  /** Noun and verb: `sandbox-create`. */
  readonly kind: string;
  readonly ownerId: string;
  /** Id of what it happened to; of a sandbox where it is one's delta, file or command. */
  readonly subjectId: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface EventFilter {
  /** Only these kinds. */
  readonly kinds?: readonly string[];
  /** Only of this sandbox. */
  readonly sandboxId?: string;
}

export interface EventCalls {
  /** Those that are kept, oldest first; `cursor` is the id of the last one seen. */
  list(options?: PageOptions & EventFilter): Promise<ListOf<EventResource>>;
  /**
   * Events as they come, behind the id `after`; absent: from now on. It goes on by itself where a connection broke, and ends with the loop
   * or the signal. What a key of scope `user` sees is its owner's, `admin` everything, `sandbox` that sandbox's.
   */
  follow(options?: CallOptions & EventFilter & { readonly after?: string }): AsyncIterable<EventResource>;
}
