// A create that may be repeated: the first request with a key makes the thing, every later one is told what the first made.
// Invariant: one key makes one thing; a create that failed gives its key back.

import { createHash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import type { ServiceParts } from "./parts.ts";

export interface OneCreate<T> {
  readonly ownerId: string;
  readonly key: string | undefined;
  readonly body: unknown;
  /** Id of what is made, if this request makes it. */
  readonly id: string;
  readonly make: () => Promise<T>;
  /** What the first request made, by its id. */
  readonly made: (id: string) => Promise<T>;
}

export async function createOnce<T>({ store, clock, nodeId }: ServiceParts, create: OneCreate<T>): Promise<T> {
  const { ownerId, key, body, id, make, made } = create;
  if (key === undefined) return await make();
  const bodyHash = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  const claim = await store.idempotency.claim({ ownerId, key, bodyHash, resultId: id, nodeId, now: clock.wallMs() });
  if (!claim.sameBody) throw new CorralError("idempotency_conflict", "this idempotency key was used for another request; use a new one");
  if (!claim.won) return await made(claim.resultId);
  try {
    return await make();
  } catch (error) {
    await store.idempotency.release(ownerId, key, id);
    throw error;
  }
}
