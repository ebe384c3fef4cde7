// Secrets as rows: their names, and their values as somebody else sealed them. Each is of one node, whose key seals it.
// Invariant: no value is here that can be read without that key; a name stands once per owner and node.

import { behind, limitOf, newestFirst, type Page, pageOf } from "./pages.ts";
import type { Db, Tables } from "./tables.ts";

export interface SecretRecord {
  readonly id: string;
  readonly ownerId: string;
  readonly nodeId: string;
  readonly name: string;
  /** The store cannot read it. */
  readonly sealed: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface ListSecrets {
  readonly nodeId: string;
  /** Absent: of all owners. */
  readonly ownerId?: string;
  readonly limit?: number;
  readonly cursor?: string;
}

export interface Secrets {
  /** False: the owner has one of that name. */
  add(record: SecretRecord): Promise<boolean>;
  /** `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<SecretRecord | undefined>;
  /** Those of the names that are there. */
  named(owner: { readonly nodeId: string; readonly ownerId: string }, names: readonly string[]): Promise<readonly SecretRecord[]>;
  /** Newest first. */
  list(request: ListSecrets): Promise<Page<SecretRecord>>;
  count(owner: { readonly nodeId: string; readonly ownerId: string }): Promise<number>;
  /** False: it is gone. */
  reseal(id: string, sealed: string, now: number): Promise<boolean>;
  /** False: it was gone. */
  remove(id: string): Promise<boolean>;
}

export function secretsOf(db: Db): Secrets {
  return {
    add: async (record) => {
      const insert = db.insertInto("secrets").values(rowOf(record));
      const { numInsertedOrUpdatedRows } = await insert
        .onConflict((conflict) => conflict.columns(["node_id", "owner_id", "name"]).doNothing())
        .executeTakeFirstOrThrow();
      return numInsertedOrUpdatedRows === 1n;
    },
    get: async (id, ownerId) => {
      const query = db.selectFrom("secrets").selectAll().where("id", "=", id);
      const row = await (ownerId === undefined ? query : query.where("owner_id", "=", ownerId)).executeTakeFirst();
      return row === undefined ? undefined : recordOf(row);
    },
    named: async ({ nodeId, ownerId }, names) => {
      if (names.length === 0) return [];
      const query = db.selectFrom("secrets").selectAll().where("node_id", "=", nodeId).where("owner_id", "=", ownerId);
      return (await query.where("name", "in", [...names]).execute()).map(recordOf);
    },
    list: (request) => list(db, request),
    count: async ({ nodeId, ownerId }) => {
      const query = db.selectFrom("secrets").select(({ fn }) => fn.countAll<number>().as("count"));
      return (await query.where("node_id", "=", nodeId).where("owner_id", "=", ownerId).executeTakeFirstOrThrow()).count;
    },
    reseal: async (id, sealed, now) => {
      const query = db.updateTable("secrets").set({ sealed, updated_at: now }).where("id", "=", id);
      return (await query.executeTakeFirst()).numUpdatedRows === 1n;
    },
    remove: async (id) => (await db.deleteFrom("secrets").where("id", "=", id).executeTakeFirst()).numDeletedRows === 1n,
  };
}

async function list(db: Db, { nodeId, ownerId, cursor, limit: asked }: ListSecrets): Promise<Page<SecretRecord>> {
  const limit = limitOf(asked);
  let query = db.selectFrom("secrets").selectAll().where("node_id", "=", nodeId);
  if (ownerId !== undefined) query = query.where("owner_id", "=", ownerId);
  if (cursor !== undefined) query = query.where(behind(cursor, "secrets"));
  const rows = await newestFirst(query, "secrets", limit).execute();
  return pageOf(rows.map(recordOf), limit);
}

function rowOf({ id, ownerId, nodeId, name, sealed, createdAt, updatedAt }: SecretRecord): Tables["secrets"] {
  return { id, owner_id: ownerId, node_id: nodeId, name, sealed, created_at: createdAt, updated_at: updatedAt };
}

function recordOf({ id, owner_id, node_id, name, sealed, created_at, updated_at }: Tables["secrets"]): SecretRecord {
  return { id, ownerId: owner_id, nodeId: node_id, name, sealed, createdAt: created_at, updatedAt: updated_at };
}
