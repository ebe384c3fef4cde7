// Worlds and the versions of their canon. Not what a canon means: that is loom/canon. Invariant: a version never changes, its number is the
// next one, and the same files are one version.

import type { CanonProblem, WorldKind } from "../api/loom.ts";
import { CorralError } from "../api/errors.ts";
import type { Sql } from "./loom-sql.ts";
import { limitOf, type Page, pageOf, placeOf } from "./pages.ts";

export interface WorldRecord {
  readonly id: string;
  readonly ownerId: string;
  readonly name: string;
  readonly kind: WorldKind;
  /** The version that new sessions pin; `null` before the first. */
  readonly canonId: string | null;
  readonly createdAt: number;
}

export interface CanonRecord {
  readonly id: string;
  readonly worldId: string;
  readonly n: number;
  readonly hash: string;
  readonly parentId: string | null;
  /** Path to the hash of its text. */
  readonly files: Readonly<Record<string, string>>;
  readonly lint: readonly CanonProblem[];
  readonly createdAt: number;
}

export type NewCanon = Pick<CanonRecord, "id" | "worldId" | "hash" | "files" | "lint" | "createdAt">;

export interface Worlds {
  add(world: Omit<WorldRecord, "canonId">): Promise<void>;
  /** `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<WorldRecord | undefined>;
  /** Newest first. */
  list(request: { readonly ownerId?: string; readonly limit?: number; readonly cursor?: string }): Promise<Page<WorldRecord>>;
  /** Call it in a transaction. The version that holds, be it new or one with the same files; it becomes the world's own. */
  addCanon(canon: NewCanon): Promise<CanonRecord>;
  canon(id: string): Promise<CanonRecord | undefined>;
  /** Newest first. */
  canons(worldId: string): Promise<readonly CanonRecord[]>;
}

interface WorldRow {
  readonly id: string;
  readonly owner_id: string;
  readonly name: string;
  readonly kind: WorldKind;
  readonly canon_id: string | null;
  readonly created_at: number;
}

interface CanonRow {
  readonly id: string;
  readonly world_id: string;
  readonly n: number;
  readonly hash: string;
  readonly parent_id: string | null;
  readonly files: string;
  readonly lint: string;
  readonly created_at: number;
}

const WORLD = "select id, owner_id, name, kind, canon_id, created_at from loom_world";
const CANON = "select id, world_id, n, hash, parent_id, files, lint, created_at from loom_canon";

export function worldsOf(sql: Sql): Worlds {
  return {
    add: async ({ id, ownerId, name, kind, createdAt }) =>
      await sql.insert("loom_world", [{ id, owner_id: ownerId, name, kind, canon_id: null, config: "{}", created_at: createdAt }]),
    get: async (id, ownerId) => {
      const row = await sql.one<WorldRow>(`${WORLD} where id = ?`, [id]);
      return row === undefined || (ownerId !== undefined && row.owner_id !== ownerId) ? undefined : worldOf(row);
    },
    list: async ({ ownerId, limit: asked, cursor }) => {
      const limit = limitOf(asked);
      const where = [
        ...(ownerId === undefined ? [] : [{ text: "owner_id = ?", values: [ownerId] }]),
        ...(cursor === undefined ? [] : [{ text: "(created_at, id) < (?, ?)", values: placeOf(cursor) }]),
      ];
      const filter = where.length === 0 ? "" : ` where ${where.map(({ text }) => text).join(" and ")}`;
      const values = [...where.flatMap((part) => part.values), limit + 1];
      const rows = await sql.all<WorldRow>(`${WORLD}${filter} order by created_at desc, id desc limit ?`, values);
      return pageOf(rows.map(worldOf), limit);
    },
    addCanon: (canon) => addCanon(sql, canon),
    canon: async (id) => {
      const row = await sql.one<CanonRow>(`${CANON} where id = ?`, [id]);
      return row === undefined ? undefined : canonOf(row);
    },
    canons: async (worldId) => (await sql.all<CanonRow>(`${CANON} where world_id = ? order by n desc`, [worldId])).map(canonOf),
  };
}

async function addCanon(sql: Sql, canon: NewCanon): Promise<CanonRecord> {
  const { id, worldId, hash, files, lint, createdAt } = canon;
  // The row is locked by this write: two who add at once come one after the other.
  if ((await sql.run("update loom_world set name = name where id = ?", [worldId])) === 0)
    throw new CorralError("world_not_found", `there is no world ${worldId}`);
  const before = await sql.one<CanonRow>(`${CANON} where world_id = ? and hash = ?`, [worldId, hash]);
  if (before === undefined) {
    const last = await sql.one<CanonRow>(`${CANON} where world_id = ? order by n desc limit 1`, [worldId]);
    const row = { id, world_id: worldId, n: (last?.n ?? 0) + 1, hash, parent_id: last?.id ?? null };
    await sql.insert("loom_canon", [{ ...row, files: JSON.stringify(files), lint: JSON.stringify(lint), created_at: createdAt }]);
  }
  const held = before ?? (await sql.one<CanonRow>(`${CANON} where id = ?`, [id]));
  if (held === undefined) throw new CorralError("internal", `the version ${id} of ${worldId} was not written`);
  await sql.run("update loom_world set canon_id = ? where id = ?", [held.id, worldId]);
  return canonOf(held);
}

function worldOf({ id, owner_id: ownerId, name, kind, canon_id: canonId, created_at: createdAt }: WorldRow): WorldRecord {
  return { id, ownerId, name, kind, canonId, createdAt };
}

function canonOf({ id, world_id: worldId, n, hash, parent_id: parentId, files, lint, created_at: createdAt }: CanonRow): CanonRecord {
  const listed = JSON.parse(files) as Readonly<Record<string, string>>;
  return { id, worldId, n, hash, parentId, files: listed, lint: JSON.parse(lint) as readonly CanonProblem[], createdAt };
}
