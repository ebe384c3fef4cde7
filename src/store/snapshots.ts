// Snapshots as their owners know them, and which sandboxes stand on which. Their files lie on the disk of one node. Invariant: a snapshot
// that a living sandbox stands on is not removed, and no sandbox comes to stand on one that is.

import { behind, limitOf, newestFirst, type Page, pageOf } from "./pages.ts";
import type { Db, Tables } from "./tables.ts";

export interface SnapshotRecord {
  readonly id: string;
  readonly ownerId: string;
  /** On whose disk it lies. */
  readonly nodeId: string;
  /** Of which it was taken. */
  readonly sandboxId: string;
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** What that sandbox was asked for, as the caller's rooms wrote it. */
  readonly request: unknown;
  /** The version of a stored codebase that it stands on; it is kept for it. */
  readonly codebase: { readonly id: string; readonly version: number } | null;
  /** The template that it stands on; it is kept for it. */
  readonly templateId: string | null;
  /** Of what it holds on disk; `null` until it is whole. */
  readonly bytes: number | null;
  readonly createdAt: number;
}

export interface ListSnapshots {
  /** Absent: of all owners. */
  readonly ownerId?: string;
  readonly nodeId?: string;
  readonly sandboxId?: string;
  readonly name?: string;
  readonly limit?: number;
  readonly cursor?: string;
}

export interface Snapshots {
  /** Before anything of it is on disk. */
  add(record: Omit<SnapshotRecord, "bytes">): Promise<void>;
  /** It is whole. */
  complete(id: string, bytes: number): Promise<void>;
  /** Of those that are whole; `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<SnapshotRecord | undefined>;
  /** Those that are whole, newest first. */
  list(request: ListSnapshots): Promise<Page<SnapshotRecord>>;
  /** Also of those that are being taken. */
  usage(ownerId: string): Promise<{ readonly count: number; readonly bytes: number }>;
  /** Call it in a transaction. From now on the sandbox stands on this one. False: it is gone. */
  use(use: { readonly sandboxId: string; readonly snapshotId: string }): Promise<boolean>;
  /** Call it in a transaction. How many living sandboxes keep it from being removed; 0: it is gone. */
  remove(id: string): Promise<number>;
  /** Forgets those of a node that did not become whole: their server died. Call it before that server takes any. */
  forgetUntaken(nodeId: string): Promise<void>;
}

export function snapshotsOf(db: Db): Snapshots {
  return {
    add: async ({ id, ownerId, nodeId, sandboxId, name, metadata, request, codebase, templateId, createdAt }) => {
      const row = { id, owner_id: ownerId, node_id: nodeId, sandbox_id: sandboxId, name, bytes: null, created_at: createdAt };
      const stands = { codebase_id: codebase?.id ?? null, codebase_version: codebase?.version ?? null, template_id: templateId };
      const texts = { metadata: JSON.stringify(metadata), request: JSON.stringify(request) };
      await db
        .insertInto("snapshots")
        .values({ ...row, ...stands, ...texts })
        .execute();
    },
    complete: async (id, bytes) => {
      await db.updateTable("snapshots").set({ bytes }).where("id", "=", id).execute();
    },
    get: async (id, ownerId) => {
      const query = db.selectFrom("snapshots").selectAll().where("id", "=", id).where("bytes", "is not", null);
      const row = await (ownerId === undefined ? query : query.where("owner_id", "=", ownerId)).executeTakeFirst();
      return row === undefined ? undefined : recordOf(row);
    },
    list: (request) => list(db, request),
    usage: async (ownerId) => {
      const query = db
        .selectFrom("snapshots")
        .select(({ fn }) => [fn.countAll<number>().as("count"), fn.sum<number | string | null>("bytes").as("bytes")]);
      const { count, bytes } = await query.where("owner_id", "=", ownerId).executeTakeFirstOrThrow();
      // A sum has a type of its own in PostgreSQL, which comes as text.
      return { count, bytes: Number(bytes ?? 0) };
    },
    use: async ({ sandboxId, snapshotId }) => {
      if (!(await lock(db, snapshotId))) return false;
      await db.deleteFrom("snapshot_uses").where("sandbox_id", "=", sandboxId).execute();
      await db.insertInto("snapshot_uses").values({ sandbox_id: sandboxId, snapshot_id: snapshotId }).execute();
      return true;
    },
    remove: (id) => remove(db, id),
    forgetUntaken: async (nodeId) => {
      await db.deleteFrom("snapshots").where("node_id", "=", nodeId).where("bytes", "is", null).execute();
    },
  };
}

/** Holds the row until the transaction ends, and so everybody who would use or remove the snapshot. */
async function lock(db: Db, id: string): Promise<boolean> {
  const query = db.updateTable("snapshots").set((row) => ({ name: row.ref("name") }));
  return (await query.where("id", "=", id).executeTakeFirst()).numUpdatedRows === 1n;
}

async function remove(db: Db, id: string): Promise<number> {
  if (!(await lock(db, id))) return 0;
  const users = db.selectFrom("snapshot_uses").innerJoin("sandboxes", "sandboxes.id", "snapshot_uses.sandbox_id");
  const { count } = await users
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("snapshot_id", "=", id)
    .where("live", "=", 1)
    .executeTakeFirstOrThrow();
  if (count > 0) return count;
  await db.deleteFrom("snapshot_uses").where("snapshot_id", "=", id).execute();
  await db.deleteFrom("snapshots").where("id", "=", id).execute();
  return 0;
}

async function list(db: Db, { ownerId, nodeId, sandboxId, name, cursor, limit: asked }: ListSnapshots): Promise<Page<SnapshotRecord>> {
  const limit = limitOf(asked);
  let query = db.selectFrom("snapshots").selectAll().where("bytes", "is not", null);
  if (ownerId !== undefined) query = query.where("owner_id", "=", ownerId);
  if (nodeId !== undefined) query = query.where("node_id", "=", nodeId);
  if (sandboxId !== undefined) query = query.where("sandbox_id", "=", sandboxId);
  if (name !== undefined) query = query.where("name", "=", name);
  if (cursor !== undefined) query = query.where(behind(cursor, "snapshots"));
  const rows = await newestFirst(query, "snapshots", limit).execute();
  return pageOf(rows.map(recordOf), limit);
}

function recordOf(row: Tables["snapshots"]): SnapshotRecord {
  const { id, owner_id: ownerId, node_id: nodeId, sandbox_id: sandboxId, name, bytes, created_at: createdAt } = row;
  const codebase =
    row.codebase_id === null || row.codebase_version === null ? null : { id: row.codebase_id, version: row.codebase_version };
  const metadata = JSON.parse(row.metadata) as Readonly<Record<string, string>>;
  return {
    id,
    ownerId,
    nodeId,
    sandboxId,
    name,
    metadata,
    request: JSON.parse(row.request),
    codebase,
    templateId: row.template_id,
    bytes,
    createdAt,
  };
}
