// Sessions of Loom, their events, and who may write to one. Not its turns. Invariant: every change of a session comes with its event in the
// same transaction, `seq` has no gap, and a writer whose lease was taken changes nothing more.

import type { LoomEvent, LoomEventKind, SessionStatus } from "../api/loom.ts";
import { MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { Sql } from "./loom-sql.ts";
import { limitOf, type Page, pageOf, placeOf } from "./pages.ts";

export interface SessionRecord {
  readonly id: string;
  readonly worldId: string;
  readonly ownerId: string;
  readonly name: string;
  /** Chooses the models; a word of the operator's. */
  readonly type: string;
  readonly status: SessionStatus;
  readonly canonId: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** All chance of the session follows from it. */
  readonly seed: string;
  /** The branch that is played on. */
  readonly branchId: string;
  readonly seq: number;
  /** Lanes and turns so far: the numbers of the next ones. */
  readonly lanes: number;
  readonly turns: number;
  readonly writer: string | null;
  readonly epoch: number;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export type NewSession = Pick<
  SessionRecord,
  "id" | "worldId" | "ownerId" | "name" | "type" | "canonId" | "config" | "seed" | "branchId" | "createdAt"
>;

export interface NewLoomEvent {
  readonly kind: LoomEventKind;
  readonly turnId?: string;
  readonly actor?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface Append {
  readonly at: number;
  readonly events: readonly NewLoomEvent[];
  /** Only while this lease holds. */
  readonly epoch?: number;
}

export interface Sessions {
  /** Call it in a transaction: each with its first branch, `main`. */
  add(sessions: readonly NewSession[]): Promise<void>;
  /** `ownerId` absent: whoever owns it. */
  get(id: string, ownerId?: string): Promise<SessionRecord | undefined>;
  /** Newest first. */
  list(request: ListSessions): Promise<Page<SessionRecord>>;
  /** Call it in a transaction. Locks the session and appends; false: it is gone, or the lease is another's. */
  append(id: string, append: Append): Promise<boolean>;
  /** Call it in a transaction. Takes the lease from the holder that was seen; the new epoch, or `undefined`: another took it first. */
  lease(id: string, lease: { readonly writer: string; readonly seen: string | null }): Promise<number | undefined>;
  /** Call it in a transaction. Gives the lease back. */
  release(id: string, epoch: number): Promise<void>;
  /** The next number of a turn. */
  countTurn(id: string): Promise<number>;
  /** Moves of heads, newest first. */
  moves(id: string, last: number): Promise<readonly LoomEvent[]>;
  /** Call it in a transaction. The branch that is played on. */
  playOn(id: string, branchId: string): Promise<void>;
  events(id: string, after: { readonly seq: number; readonly limit?: number }): Promise<readonly LoomEvent[]>;
}

export interface ListSessions {
  readonly ownerId?: string;
  readonly worldId?: string;
  readonly limit?: number;
  readonly cursor?: string;
}

interface SessionRow {
  readonly id: string;
  readonly world_id: string;
  readonly owner_id: string;
  readonly name: string;
  readonly type: string;
  readonly status: SessionStatus;
  readonly canon_id: string;
  readonly config: string;
  readonly seed: string;
  readonly branch_id: string;
  readonly seq: number;
  readonly lanes: number;
  readonly turns: number;
  readonly writer: string | null;
  readonly epoch: number;
  readonly created_at: number;
  readonly updated_at: number;
}

interface EventRow {
  readonly seq: number;
  readonly at: number;
  readonly kind: LoomEventKind;
  readonly turn_id: string | null;
  readonly actor: string | null;
  readonly data: string;
}

export function sessionsOf(sql: Sql): Sessions {
  return {
    add: (sessions) => add(sql, sessions),
    get: async (id, ownerId) => {
      const row = await sql.one<SessionRow>("select * from loom_session where id = ?", [id]);
      return row === undefined || (ownerId !== undefined && row.owner_id !== ownerId) ? undefined : sessionOf(row);
    },
    list: (request) => list(sql, request),
    append: (id, request) => append(sql, id, request),
    lease: async (id, { writer, seen }) => {
      const held = seen === null ? "writer is null" : "writer = ?";
      const values = [writer, id, ...(seen === null ? [] : [seen])];
      const text = `update loom_session set writer = ?, epoch = epoch + 1 where id = ? and ${held} returning epoch`;
      return (await sql.one<{ readonly epoch: number }>(text, values))?.epoch;
    },
    release: async (id, epoch) => {
      await sql.run("update loom_session set writer = null where id = ? and epoch = ?", [id, epoch]);
    },
    countTurn: async (id) => {
      const row = await sql.one<{ readonly turns: number }>("update loom_session set turns = turns + 1 where id = ? returning turns", [id]);
      return row?.turns ?? 0;
    },
    moves: async (id, last) => {
      const text = `select seq, at, kind, turn_id, actor, data from loom_event where session_id = ? and kind = 'head-move'
        order by seq desc limit ?`;
      return (await sql.all<EventRow>(text, [id, last])).map(eventOf);
    },
    playOn: async (id, branchId) => {
      await sql.run("update loom_session set branch_id = ? where id = ?", [branchId, id]);
    },
    events: async (id, { seq, limit = MAX_PAGE_ITEMS }) => {
      const text = "select seq, at, kind, turn_id, actor, data from loom_event where session_id = ? and seq > ? order by seq limit ?";
      return (await sql.all<EventRow>(text, [id, seq, limitOf(limit)])).map(eventOf);
    },
  };
}

async function add(sql: Sql, sessions: readonly NewSession[]): Promise<void> {
  const rows = sessions.map(({ id, worldId, ownerId, name, type, canonId, config, seed, branchId, createdAt }) => ({
    ...{ id, world_id: worldId, owner_id: ownerId, name, type, status: "active", canon_id: canonId, config: JSON.stringify(config), seed },
    ...{ branch_id: branchId, seq: 1, lanes: 0, turns: 0, writer: null, epoch: 0, created_at: createdAt, updated_at: createdAt },
  }));
  await sql.insert("loom_session", rows);
  const branches = sessions.map(({ id, branchId, createdAt }) => ({ id: branchId, session_id: id, name: "main", created_at: createdAt }));
  await sql.insert("loom_branch", branches);
  const events = sessions.map((one) => ({
    ...{ session_id: one.id, seq: 1, at: one.createdAt, kind: "session-create", turn_id: null, actor: one.ownerId },
    data: JSON.stringify({ worldId: one.worldId, canonId: one.canonId, name: one.name, type: one.type, branchId: one.branchId }),
  }));
  await sql.insert("loom_event", events);
}

async function list(sql: Sql, { ownerId, worldId, limit: asked, cursor }: ListSessions): Promise<Page<SessionRecord>> {
  const limit = limitOf(asked);
  const where = [
    ...(ownerId === undefined ? [] : [{ text: "owner_id = ?", values: [ownerId] }]),
    ...(worldId === undefined ? [] : [{ text: "world_id = ?", values: [worldId] }]),
    ...(cursor === undefined ? [] : [{ text: "(created_at, id) < (?, ?)", values: placeOf(cursor) }]),
  ];
  const filter = where.length === 0 ? "" : ` where ${where.map(({ text }) => text).join(" and ")}`;
  const text = `select * from loom_session${filter} order by created_at desc, id desc limit ?`;
  return pageOf((await sql.all<SessionRow>(text, [...where.flatMap(({ values }) => values), limit + 1])).map(sessionOf), limit);
}

async function append(sql: Sql, id: string, { at, events, epoch }: Append): Promise<boolean> {
  const fence = epoch === undefined ? "" : " and epoch = ?";
  const text = `update loom_session set seq = seq + ?, updated_at = ? where id = ?${fence} returning seq`;
  const row = await sql.one<{ readonly seq: number }>(text, [events.length, at, id, ...(epoch === undefined ? [] : [epoch])]);
  if (row === undefined) return false;
  const first = row.seq - events.length + 1;
  await sql.insert(
    "loom_event",
    events.map(({ kind, turnId, actor, data = {} }, i) => ({
      ...{ session_id: id, seq: first + i, at, kind, turn_id: turnId ?? null, actor: actor ?? null, data: JSON.stringify(data) },
    })),
  );
  return true;
}

function sessionOf(row: SessionRow): SessionRecord {
  const { id, world_id: worldId, owner_id: ownerId, name, type, status, canon_id: canonId, seed, branch_id: branchId, seq } = row;
  const { lanes, turns, writer, epoch, created_at: createdAt, updated_at: updatedAt } = row;
  const config = JSON.parse(row.config) as Readonly<Record<string, unknown>>;
  const first = { id, worldId, ownerId, name, type, status, canonId, config, seed, branchId, seq };
  return { ...first, lanes, turns, writer, epoch, createdAt, updatedAt };
}

function eventOf({ seq, at, kind, turn_id: turnId, actor, data }: EventRow): LoomEvent {
  const named = { ...(turnId === null ? {} : { turnId }), ...(actor === null ? {} : { actor }) };
  return { seq, at, kind, ...named, data: JSON.parse(data) as Readonly<Record<string, unknown>> };
}
