// Templates as their owners know them: where the root lies, what sandboxes of one get unless they ask otherwise, and which sandboxes stand on
// which. The trees lie on the disk of one node. Invariant: a root is set once; a template that a living sandbox stands on is not removed,
// and no sandbox comes to stand on one that is.

import { behind, limitOf, newestFirst, type Page, pageOf } from "./pages.ts";
import type { Db, Tables } from "./tables.ts";

export type TemplateState = "empty" | "building" | "ready" | "failed";

export interface TemplateTree {
  readonly root: string;
  readonly bytes: number;
  readonly files: number;
  readonly entries: number;
}

export interface TemplateRecord {
  readonly id: string;
  readonly ownerId: string;
  /** On whose disk it lies. */
  readonly nodeId: string;
  readonly name: string;
  /** Everybody may use it; only its owner changes it. */
  readonly shared: boolean;
  /** Where it came from, as its maker's room wrote it; the store reads neither. */
  readonly source: unknown;
  readonly defaults: unknown;
  readonly state: TemplateState;
  /** Why it failed. */
  readonly reason: string | null;
  /** `null` until it is ready. */
  readonly tree: TemplateTree | null;
  readonly createdAt: number;
}

export interface Templates {
  add(record: TemplateRecord): Promise<void>;
  /** `ownerId` absent: whoever owns it; else that owner's and shared ones. */
  get(id: string, ownerId?: string): Promise<TemplateRecord | undefined>;
  /** Newest first. */
  list(request: { readonly ownerId?: string; readonly limit?: number; readonly cursor?: string }): Promise<Page<TemplateRecord>>;
  count(ownerId: string): Promise<number>;
  /** False when it was in another state. */
  change(
    id: string,
    from: TemplateState,
    to: { readonly state: TemplateState; readonly reason?: string; readonly tree?: TemplateTree },
  ): Promise<boolean>;
  /** Ids of a node's that are in a state. */
  inState(nodeId: string, state: TemplateState): Promise<readonly string[]>;
  /** Call it in a transaction with the sandbox's row. False: the template is gone. */
  use(use: { readonly sandboxId: string; readonly templateId: string }): Promise<boolean>;
  /** Call it in a transaction. How many living sandboxes and snapshots keep it from being removed; 0: it is gone. */
  remove(id: string): Promise<number>;
  roots(nodeId: string, ownerId: string): Promise<readonly string[]>;
  owners(nodeId: string): Promise<readonly string[]>;
}

export function templatesOf(db: Db): Templates {
  return {
    add: async (record) => void (await db.insertInto("templates").values(rowOf(record)).execute()),
    get: async (id, ownerId) => {
      const query = db.selectFrom("templates").selectAll().where("id", "=", id);
      const mine =
        ownerId === undefined ? query : query.where((where) => where.or([where("owner_id", "=", ownerId), where("shared", "=", 1)]));
      const row = await mine.executeTakeFirst();
      return row === undefined ? undefined : recordOf(row);
    },
    list: (request) => list(db, request),
    count: async (ownerId) => {
      const query = db.selectFrom("templates").select(({ fn }) => fn.countAll<number>().as("count"));
      return (await query.where("owner_id", "=", ownerId).executeTakeFirstOrThrow()).count;
    },
    change: async (id, from, { state, reason = null, tree }) => {
      const query = db
        .updateTable("templates")
        .set({ state, reason, ...tree })
        .where("id", "=", id)
        .where("state", "=", from);
      return (await query.executeTakeFirst()).numUpdatedRows === 1n;
    },
    inState: async (nodeId, state) => {
      const rows = await db.selectFrom("templates").select("id").where("node_id", "=", nodeId).where("state", "=", state).execute();
      return rows.map(({ id }) => id);
    },
    use: async ({ sandboxId, templateId }) => {
      if (!(await lock(db, templateId))) return false;
      await db.insertInto("template_uses").values({ sandbox_id: sandboxId, template_id: templateId }).execute();
      return true;
    },
    remove: (id) => remove(db, id),
    roots: async (nodeId, ownerId) => {
      const rows = await db.selectFrom("templates").select("root").where("node_id", "=", nodeId).where("owner_id", "=", ownerId).execute();
      return rows.flatMap(({ root }) => (root === null ? [] : [root]));
    },
    owners: async (nodeId) =>
      (await db.selectFrom("templates").select("owner_id").distinct().where("node_id", "=", nodeId).execute()).map(
        ({ owner_id }) => owner_id,
      ),
  };
}

/** Holds the row until the transaction ends. */
async function lock(db: Db, id: string): Promise<boolean> {
  const query = db.updateTable("templates").set((row) => ({ state: row.ref("state") }));
  return (await query.where("id", "=", id).executeTakeFirst()).numUpdatedRows === 1n;
}

async function remove(db: Db, id: string): Promise<number> {
  if (!(await lock(db, id))) return 0;
  const users = db.selectFrom("template_uses").innerJoin("sandboxes", "sandboxes.id", "template_uses.sandbox_id");
  const { count } = await users
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("template_id", "=", id)
    .where("live", "=", 1)
    .executeTakeFirstOrThrow();
  const kept = db.selectFrom("snapshots").select(({ fn }) => fn.countAll<number>().as("count"));
  const all = count + (await kept.where("template_id", "=", id).executeTakeFirstOrThrow()).count;
  if (all > 0) return all;
  await db.deleteFrom("template_uses").where("template_id", "=", id).execute();
  await db.deleteFrom("templates").where("id", "=", id).execute();
  return 0;
}

async function list(
  db: Db,
  { ownerId, cursor, limit: asked }: { readonly ownerId?: string; readonly limit?: number; readonly cursor?: string },
): Promise<Page<TemplateRecord>> {
  const limit = limitOf(asked);
  let query = newestFirst(db.selectFrom("templates").selectAll(), "templates", limit);
  if (ownerId !== undefined) query = query.where((where) => where.or([where("owner_id", "=", ownerId), where("shared", "=", 1)]));
  if (cursor !== undefined) query = query.where(behind(cursor, "templates"));
  return pageOf((await query.execute()).map(recordOf), limit);
}

function rowOf(record: TemplateRecord): Tables["templates"] {
  const { id, ownerId, nodeId, name, shared, source, defaults, state, reason, tree, createdAt } = record;
  const { root = null, bytes = 0, files = 0, entries = 0 } = tree ?? {};
  return {
    id,
    owner_id: ownerId,
    node_id: nodeId,
    name,
    shared: shared ? 1 : 0,
    source: JSON.stringify(source),
    defaults: JSON.stringify(defaults),
    state,
    reason,
    root,
    bytes,
    files,
    entries,
    created_at: createdAt,
  };
}

function recordOf(row: Tables["templates"]): TemplateRecord {
  const { root, bytes, files, entries } = row;
  return {
    id: row.id,
    ownerId: row.owner_id,
    nodeId: row.node_id,
    name: row.name,
    shared: row.shared === 1,
    source: JSON.parse(row.source),
    defaults: JSON.parse(row.defaults),
    state: row.state as TemplateState,
    reason: row.reason,
    tree: root === null ? null : { root, bytes, files, entries },
    createdAt: row.created_at,
  };
}
