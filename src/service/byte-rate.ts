// How fast a sandbox may be spoken with from outside: of its egress and of its ports, each. Invariant: it follows from the size alone.

import { DEFAULT_MEMORY_BYTES, EGRESS_FASTEST, EGRESS_RATES } from "../api/limits.ts";
import type { CreateRequest } from "../api/sandbox.ts";

/** Bytes a second of both directions, by the size of a sandbox. */
export function rateOf(request: unknown): number {
  const { limits: { memoryBytes = DEFAULT_MEMORY_BYTES } = {} } = (request ?? {}) as Pick<CreateRequest, "limits">;
  return (EGRESS_RATES.find(({ upToBytes }) => memoryBytes <= upToBytes) ?? EGRESS_FASTEST).bytesPerSecond;
}
