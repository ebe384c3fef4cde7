// Codebases as their owners know them: names, versions, and which sandboxes stand on which. The trees themselves lie on the disk of one
// node, by their hashes. Invariant: versions count up by one, and of two who add one to the same version one is told that it came too
// late; a codebase that a living sandbox stands on is not removed, and no sandbox comes to stand on one that is.

import { behind, limitOf, newestFirst, type Page, pageOf } from "./pages.ts";
import type { Db, Tables } from "./tables.ts";

export interface NewVersion {
  /** Hash of the root's listing. */
  readonly root: string;
  readonly bytes: number;
  readonly files: number;
  readonly entries: number;
  /** Where it came from, e.g. `tar`; for people. */
  readonly source: string;
}

export interface VersionRecord extends NewVersion {
  readonly codebaseId: string;
  readonly number: number;
  readonly createdAt: number;
}

export interface CodebaseRecord {
  readonly id: string;
  readonly ownerId: string;
  /** On whose disk it lies. */
  readonly nodeId: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly current: VersionRecord;
}

export interface ListCodebases {
  /** Absent: of all owners. */
  readonly ownerId?: string;
  readonly name?: string;
  readonly limit?: number;
  readonly cursor?: string;
}

export interface AddVersion {
  readonly id: string;
  /** The version that it was made from; another one by now: `undefined` is answered. */
  readonly expected: number;
  readonly version: NewVersion;
  readonly now: number;
}

export interface Codebases {
  /** With its first version. */
  add(record: Omit<CodebaseRecord, "current" | "updatedAt">, version: NewVersion): Promise<void>;
  /** `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<CodebaseRecord | undefined>;
  /** Newest first. */
  list(request: ListCodebases): Promise<Page<CodebaseRecord>>;
  count(ownerId: string): Promise<number>;
  version(id: string, number: number): Promise<VersionRecord | undefined>;
  /** Newest first; `before` begins behind that number. */
  versions(id: string, page: { readonly limit: number; readonly before?: number }): Promise<readonly VersionRecord[]>;
  /** Call it in a transaction. The new number, or `undefined` when another version came first or the codebase is gone. */
  addVersion(request: AddVersion): Promise<number | undefined>;
  /** Call it in a transaction with the sandbox's row. False: the codebase or the version is gone. */
  use(use: { readonly sandboxId: string; readonly codebaseId: string; readonly number: number }): Promise<boolean>;
  /** Call it in a transaction. How many living sandboxes and snapshots keep it from being removed; 0: it is gone, and its versions. */
  remove(id: string): Promise<number>;
  /** Forgets versions but the newest `keep`, those that a living sandbox or a snapshot stands on, and `used`; returns how many. */
  prune(id: string, keep: number, used: readonly number[]): Promise<number>;
  /** Roots of all versions of an owner that lie on a node. */
  roots(nodeId: string, ownerId: string): Promise<readonly string[]>;
  owners(nodeId: string): Promise<readonly string[]>;
}

export function codebasesOf(db: Db): Codebases {
  return {
    add: (record, version) => add(db, record, version),
    get: async (id, ownerId) => {
      const query = selected(db).where("codebases.id", "=", id);
      const row = await (ownerId === undefined ? query : query.where("owner_id", "=", ownerId)).executeTakeFirst();
      return row === undefined ? undefined : recordOf(row);
    },
    list: (request) => list(db, request),
    count: async (ownerId) => {
      const query = db.selectFrom("codebases").select(({ fn }) => fn.countAll<number>().as("count"));
      return (await query.where("owner_id", "=", ownerId).executeTakeFirstOrThrow()).count;
    },
    version: async (id, number) => {
      const query = db.selectFrom("codebase_versions").selectAll().where("codebase_id", "=", id).where("number", "=", number);
      const row = await query.executeTakeFirst();
      return row === undefined ? undefined : versionOf(row);
    },
    versions: async (id, { limit, before }) => {
      let query = db.selectFrom("codebase_versions").selectAll().where("codebase_id", "=", id).orderBy("number", "desc").limit(limit);
      if (before !== undefined) query = query.where("number", "<", before);
      return (await query.execute()).map(versionOf);
    },
    addVersion: (request) => addVersion(db, request),
    use: async ({ sandboxId, codebaseId, number }) => {
      if (!(await lock(db, codebaseId))) return false;
      const version = db
        .selectFrom("codebase_versions")
        .select("number")
        .where("codebase_id", "=", codebaseId)
        .where("number", "=", number);
      if ((await version.executeTakeFirst()) === undefined) return false;
      await db.insertInto("codebase_uses").values({ sandbox_id: sandboxId, codebase_id: codebaseId, number }).execute();
      return true;
    },
    remove: async (id) => {
      if (!(await lock(db, id))) return 0;
      const users = await liveUses(db, id);
      if (users.length === 0) {
        await db.deleteFrom("codebase_uses").where("codebase_id", "=", id).execute();
        await db.deleteFrom("codebases").where("id", "=", id).execute();
      }
      return users.length;
    },
    prune: (id, keep, used) => prune(db, id, keep, used),
    roots: async (nodeId, ownerId) => {
      const query = db.selectFrom("codebase_versions").innerJoin("codebases", "codebases.id", "codebase_versions.codebase_id");
      const rows = await query.select("root").distinct().where("node_id", "=", nodeId).where("owner_id", "=", ownerId).execute();
      return rows.map(({ root }) => root);
    },
    owners: async (nodeId) =>
      (await db.selectFrom("codebases").select("owner_id").distinct().where("node_id", "=", nodeId).execute()).map(
        ({ owner_id }) => owner_id,
      ),
  };
}

async function add(db: Db, record: Omit<CodebaseRecord, "current" | "updatedAt">, version: NewVersion): Promise<void> {
  const { id, ownerId, nodeId, name, labels, createdAt } = record;
  const row = { id, owner_id: ownerId, node_id: nodeId, name, labels: JSON.stringify(labels), version: 1 };
  await db
    .insertInto("codebases")
    .values({ ...row, created_at: createdAt, updated_at: createdAt })
    .execute();
  await db
    .insertInto("codebase_versions")
    .values({ codebase_id: id, number: 1, created_at: createdAt, ...version })
    .execute();
}

/** Holds the row until the transaction ends, and so everybody who would use, change or remove the codebase. */
async function lock(db: Db, id: string): Promise<boolean> {
  const result = await db
    .updateTable("codebases")
    .set((row) => ({ version: row.ref("version") }))
    .where("id", "=", id)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Versions that a living sandbox or a snapshot stands on. */
async function liveUses(db: Db, id: string): Promise<readonly number[]> {
  const query = db.selectFrom("codebase_uses").innerJoin("sandboxes", "sandboxes.id", "codebase_uses.sandbox_id");
  const rows = await query.select("number").where("codebase_id", "=", id).where("live", "=", 1).execute();
  const kept = await db.selectFrom("snapshots").select("codebase_version as number").where("codebase_id", "=", id).execute();
  return [...rows, ...kept].flatMap(({ number }) => number ?? []);
}

async function addVersion(db: Db, { id, expected, version, now }: AddVersion): Promise<number | undefined> {
  const result = await db
    .updateTable("codebases")
    .set({ version: expected + 1, updated_at: now })
    .where("id", "=", id)
    .where("version", "=", expected)
    .executeTakeFirst();
  if (result.numUpdatedRows !== 1n) return undefined;
  await db
    .insertInto("codebase_versions")
    .values({ codebase_id: id, number: expected + 1, created_at: now, ...version })
    .execute();
  return expected + 1;
}

async function prune(db: Db, id: string, keep: number, others: readonly number[]): Promise<number> {
  const used = [...(await liveUses(db, id)), ...others];
  const row = await db.selectFrom("codebases").select("version").where("id", "=", id).executeTakeFirst();
  if (row === undefined) return 0;
  let query = db
    .deleteFrom("codebase_versions")
    .where("codebase_id", "=", id)
    .where("number", "<=", row.version - keep);
  if (used.length > 0) query = query.where("number", "not in", used);
  return Number((await query.executeTakeFirst()).numDeletedRows);
}

function selected(db: Db) {
  return db
    .selectFrom("codebases")
    .innerJoin("codebase_versions", (join) =>
      join.onRef("codebase_versions.codebase_id", "=", "codebases.id").onRef("codebase_versions.number", "=", "codebases.version"),
    )
    .select(["codebases.id", "owner_id", "node_id", "name", "labels", "codebases.created_at", "updated_at"])
    .select(["codebase_id", "number", "root", "bytes", "files", "entries", "source", "codebase_versions.created_at as made_at"]);
}

async function list(db: Db, { ownerId, name, cursor, limit: asked }: ListCodebases): Promise<Page<CodebaseRecord>> {
  const limit = limitOf(asked);
  let query = newestFirst(selected(db), "codebases", limit);
  if (ownerId !== undefined) query = query.where("owner_id", "=", ownerId);
  if (name !== undefined) query = query.where("name", "=", name);
  if (cursor !== undefined) query = query.where(behind(cursor, "codebases"));
  return pageOf((await query.execute()).map(recordOf), limit);
}

type Row = Awaited<ReturnType<ReturnType<typeof selected>["execute"]>>[number];

function recordOf({ made_at, ...row }: Row): CodebaseRecord {
  return {
    id: row.id,
    ownerId: row.owner_id,
    nodeId: row.node_id,
    name: row.name,
    labels: JSON.parse(row.labels) as Readonly<Record<string, string>>,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    current: versionOf({ ...row, created_at: made_at }),
  };
}

function versionOf(row: Tables["codebase_versions"]): VersionRecord {
  const { codebase_id: codebaseId, number, root, bytes, files, entries, source, created_at: createdAt } = row;
  return { codebaseId, number, root, bytes, files, entries, source, createdAt };
}
