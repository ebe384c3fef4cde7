// Sandboxes as their owners know them: what was asked for, the state that was last seen, when they end. The journal, not this table,
// knows what is in the kernel. Invariant: state changes are compare-and-set, so that of two who act on one sandbox one is told that
// it came too late; a row is never removed while it is live, and the sandbox of another owner is as one that never was.

import { type ExpressionBuilder, type SelectQueryBuilder } from "kysely";
import type { SandboxInfo } from "../api/sandbox.ts";
import { behind, limitOf, newestFirst, type Page, pageOf } from "./pages.ts";
import type { Db, Tables } from "./tables.ts";

export type SandboxState = SandboxInfo["state"];

export interface SandboxRecord {
  readonly id: string;
  readonly ownerId: string;
  /** Whose kernel it lives in. */
  readonly nodeId: string;
  readonly state: SandboxState;
  /** As the caller's rooms wrote it; the store reads neither. */
  readonly request: unknown;
  readonly info: unknown;
  readonly onTimeout: "kill" | "pause";
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Wall clock, ms; `null` never ends by itself. */
  readonly endAt: number | null;
  /** Of a paused one: whether its processes are kept. `null`: not paused. */
  readonly memory: boolean | null;
}

export interface ListRequest {
  /** Absent: of all owners. */
  readonly ownerId?: string;
  /** Absent: of all nodes. */
  readonly nodeId?: string;
  /** Absent: every state but `destroyed` and `failed`. */
  readonly states?: readonly SandboxState[];
  /** All of these pairs. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly limit?: number;
  /** `next` of the page before. */
  readonly cursor?: string;
}

export interface StateChange {
  readonly id: string;
  /** The states of which it must be in one. */
  readonly from: readonly SandboxState[];
  readonly to: SandboxState;
  readonly now: number;
  /** Only when it has ended by `now`: what a reaper of expired ones asks for. */
  readonly ifEnded?: boolean;
  /** Absent: the end stays. */
  readonly endAt?: number | null;
  /** Of a change to `paused`; every other state has none. */
  readonly memory?: boolean;
}

export interface Sandboxes {
  add(record: SandboxRecord): Promise<void>;
  /** `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<SandboxRecord | undefined>;
  /** Those of the ids that are there (and the owner's, when one is named), without their metadata. */
  some(ids: readonly string[], ownerId?: string): Promise<ReadonlyMap<string, SandboxRecord>>;
  /** Newest first. Each one that lives from the first page to the last is told exactly once, whatever comes and goes meanwhile. */
  list(request: ListRequest): Promise<Page<SandboxRecord>>;
  countLive(ownerId: string): Promise<number>;
  /** False when it was in none of those states. */
  change(change: StateChange): Promise<boolean>;
  /** Moves the end. False when it is not alive any more, or its end has come: renewed and alive, or neither. */
  renew(id: string, endAt: number | null, now: number): Promise<boolean>;
  setInfo(id: string, info: unknown, now: number): Promise<void>;
  setRequest(id: string, request: unknown, now: number): Promise<void>;
  /** Ids of a node's living ones whose end has come, the longest overdue first. */
  ended(nodeId: string, now: number, limit: number): Promise<readonly string[]>;
}

const GONE: readonly SandboxState[] = ["destroyed", "failed"];

export function sandboxesOf(db: Db): Sandboxes {
  return {
    add: (record) => add(db, record),
    get: async (id, ownerId) => {
      const query = db.selectFrom("sandboxes").selectAll().where("id", "=", id);
      const row = await (ownerId === undefined ? query : query.where("owner_id", "=", ownerId)).executeTakeFirst();
      return row === undefined ? undefined : recordOf(row, (await metadataOf(db, [id])).get(id));
    },
    some: async (ids, ownerId) => {
      if (ids.length === 0) return new Map();
      const query = db
        .selectFrom("sandboxes")
        .selectAll()
        .where("id", "in", [...ids]);
      const rows = await (ownerId === undefined ? query : query.where("owner_id", "=", ownerId)).execute();
      return new Map(rows.map((row) => [row.id, recordOf(row)]));
    },
    list: (request) => list(db, request),
    countLive: async (ownerId) => {
      const query = db.selectFrom("sandboxes").select(({ fn }) => fn.countAll<number>().as("count"));
      return (await query.where("owner_id", "=", ownerId).where("live", "=", 1).executeTakeFirstOrThrow()).count;
    },
    change: async ({ id, from, to, now, ifEnded = false, endAt, memory }) => {
      const end = endAt === undefined ? {} : { end_at: endAt };
      const query = db
        .updateTable("sandboxes")
        .set({ state: to, live: liveOf(to), updated_at: now, memory: memory === undefined ? null : Number(memory), ...end })
        .where("id", "=", id)
        .where("state", "in", [...from]);
      const result = await (ifEnded ? query.where("end_at", "<=", now) : query).executeTakeFirst();
      return result.numUpdatedRows === 1n;
    },
    renew: async (id, endAt, now) => {
      const query = db
        .updateTable("sandboxes")
        .set({ end_at: endAt, updated_at: now })
        .where("id", "=", id)
        .where("live", "=", 1)
        .where((where) => where.or([where("end_at", "is", null), where("end_at", ">", now)]));
      return (await query.executeTakeFirst()).numUpdatedRows === 1n;
    },
    setInfo: (id, info, now) => rewrite(db, id, { info: JSON.stringify(info), updated_at: now }),
    setRequest: (id, request, now) => rewrite(db, id, { request: JSON.stringify(request), updated_at: now }),
    ended: async (nodeId, now, limit) => {
      const query = db.selectFrom("sandboxes").select("id").where("node_id", "=", nodeId).where("live", "=", 1).where("end_at", "<=", now);
      return (await query.orderBy("end_at").limit(limit).execute()).map(({ id }) => id);
    },
  };
}

async function rewrite(db: Db, id: string, columns: Partial<Pick<Tables["sandboxes"], "info" | "request" | "updated_at">>): Promise<void> {
  await db.updateTable("sandboxes").set(columns).where("id", "=", id).execute();
}

/** Several rows: call it in a transaction when a half-written one would be seen. */
async function add(db: Db, record: SandboxRecord): Promise<void> {
  await db
    .insertInto("sandboxes")
    .values({
      id: record.id,
      owner_id: record.ownerId,
      node_id: record.nodeId,
      state: record.state,
      live: liveOf(record.state),
      request: JSON.stringify(record.request),
      info: JSON.stringify(record.info),
      on_timeout: record.onTimeout,
      created_at: record.createdAt,
      updated_at: record.updatedAt,
      end_at: record.endAt,
      memory: record.memory === null ? null : Number(record.memory),
    })
    .execute();
  const pairs = Object.entries(record.metadata).map(([key, value]) => ({ sandbox_id: record.id, key, value }));
  if (pairs.length > 0) await db.insertInto("sandbox_metadata").values(pairs).execute();
}

async function list(db: Db, request: ListRequest): Promise<Page<SandboxRecord>> {
  const limit = limitOf(request.limit);
  const query = filtered(db.selectFrom("sandboxes").selectAll(), request);
  const rows = await newestFirst(query, "sandboxes", limit).execute();
  const { items, ...more } = pageOf(
    rows.map((row) => recordOf(row)),
    limit,
  );
  const metadata = await metadataOf(
    db,
    items.map(({ id }) => id),
  );
  return { items: items.map((record) => ({ ...record, metadata: metadata.get(record.id) ?? {} })), ...more };
}

type Select = SelectQueryBuilder<Tables, "sandboxes", Tables["sandboxes"]>;
type Where = ExpressionBuilder<Tables, "sandboxes">;

function filtered(query: Select, { ownerId, nodeId, states, metadata = {}, cursor }: ListRequest): Select {
  let found = states === undefined ? query.where("live", "=", 1) : query.where("state", "in", [...states]);
  if (ownerId !== undefined) found = found.where("owner_id", "=", ownerId);
  if (nodeId !== undefined) found = found.where("node_id", "=", nodeId);
  for (const [key, value] of Object.entries(metadata)) found = found.where((where) => hasPair(where, key, value));
  return cursor === undefined ? found : found.where(behind(cursor, "sandboxes"));
}

function hasPair(where: Where, key: string, value: string): ReturnType<Where["exists"]> {
  const pair = where.selectFrom("sandbox_metadata").select("key").whereRef("sandbox_id", "=", "sandboxes.id");
  return where.exists(pair.where("key", "=", key).where("value", "=", value));
}

async function metadataOf(db: Db, ids: readonly string[]): Promise<ReadonlyMap<string, Record<string, string>>> {
  const found = new Map<string, Record<string, string>>();
  if (ids.length === 0) return found;
  const rows = await db
    .selectFrom("sandbox_metadata")
    .selectAll()
    .where("sandbox_id", "in", [...ids])
    .orderBy("key")
    .execute();
  for (const { sandbox_id: id, key, value } of rows) found.set(id, { ...found.get(id), [key]: value });
  return found;
}

function liveOf(state: SandboxState): number {
  return GONE.includes(state) ? 0 : 1;
}

function recordOf(row: Tables["sandboxes"], metadata: Readonly<Record<string, string>> = {}): SandboxRecord {
  return {
    id: row.id,
    ownerId: row.owner_id,
    nodeId: row.node_id,
    state: row.state as SandboxState,
    request: JSON.parse(row.request),
    info: JSON.parse(row.info),
    onTimeout: row.on_timeout as SandboxRecord["onTimeout"],
    metadata,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    endAt: row.end_at,
    memory: row.memory === null ? null : row.memory === 1,
  };
}
