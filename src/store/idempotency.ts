// Keys that a client sends with a create, so that a repeated request makes nothing twice. Not the result itself: that is found by its id.
// Invariant: of any number who claim one key at once, one wins, and all others learn the winner's id.

import { ID_PREFIX } from "../api/ids.ts";
import { IDEMPOTENCY_MS } from "../api/limits.ts";
import type { Db } from "./tables.ts";

export interface ClaimRequest {
  readonly ownerId: string;
  readonly key: string;
  /** Hash of the request: the same key with another request is a mistake of the client. */
  readonly bodyHash: string;
  /** Id that the thing gets if this claim wins. */
  readonly resultId: string;
  /** Of the server that asks. */
  readonly nodeId: string;
  readonly now: number;
}

export interface Claim {
  readonly won: boolean;
  /** The winner's. */
  readonly resultId: string;
  /** The winner's request was the same. */
  readonly sameBody: boolean;
}

export interface Idempotency {
  claim(request: ClaimRequest): Promise<Claim>;
  /** Gives a key back whose create failed: the next one may try. */
  release(ownerId: string, key: string, resultId: string): Promise<void>;
  /** Gives back the keys of a server that died before it wrote down what it was to make. Call it before that server makes anything. */
  releaseUnwritten(nodeId: string): Promise<void>;
  /** Forgets keys that are older than a day; returns how many. */
  sweep(now: number): Promise<number>;
}

/** Where what a key makes is written down, by how its ids begin. */
const WRITTEN = [
  [ID_PREFIX.sandbox, "sandboxes"],
  [ID_PREFIX.codebase, "codebases"],
  [ID_PREFIX.snapshot, "snapshots"],
] as const;

export function idempotencyOf(db: Db): Idempotency {
  return {
    claim: (request) => claim(db, request),
    release: async (ownerId, key, resultId) => {
      await db.deleteFrom("idempotency").where("owner_id", "=", ownerId).where("key", "=", key).where("result_id", "=", resultId).execute();
    },
    releaseUnwritten: async (nodeId) => {
      for (const [prefix, table] of WRITTEN) {
        const rows = db.selectFrom(table).select("id");
        const claims = db.deleteFrom("idempotency").where("node_id", "=", nodeId).where("result_id", "like", `${prefix}%`);
        await claims.where("result_id", "not in", rows).execute();
      }
    },
    sweep: async (now) => Number((await db.deleteFrom("idempotency").where("expires_at", "<=", now).executeTakeFirst()).numDeletedRows),
  };
}

async function claim(db: Db, request: ClaimRequest): Promise<Claim> {
  const { ownerId, key, bodyHash, resultId, nodeId, now } = request;
  await db.deleteFrom("idempotency").where("owner_id", "=", ownerId).where("key", "=", key).where("expires_at", "<=", now).execute();
  await db
    .insertInto("idempotency")
    .values({
      owner_id: ownerId,
      key,
      body_hash: bodyHash,
      result_id: resultId,
      node_id: nodeId,
      created_at: now,
      expires_at: now + IDEMPOTENCY_MS,
    })
    .onConflict((conflict) => conflict.columns(["owner_id", "key"]).doNothing())
    .execute();
  const winner = await db
    .selectFrom("idempotency")
    .select(["result_id", "body_hash"])
    .where("owner_id", "=", ownerId)
    .where("key", "=", key)
    .executeTakeFirst();
  // The winner's create failed and its key was given back between the two: try once more.
  if (winner === undefined) return await claim(db, request);
  return { won: winner.result_id === resultId, resultId: winner.result_id, sameBody: winner.body_hash === bodyHash };
}
