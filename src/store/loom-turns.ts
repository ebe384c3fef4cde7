// Turns of a session and the journal of their steps: what was asked of a model, what came, chunk by chunk. Not what a state means.
// Invariant: an end state never changes; a step is written before its request leaves; input and output are blobs of the session.

import type { StopReason, TurnKind, TurnState } from "../api/loom.ts";
import type { Sql } from "./loom-sql.ts";
import { onPath, pathValues, type Place } from "./loom-tree.ts";

export interface TurnRecord {
  readonly id: string;
  readonly sessionId: string;
  readonly branchId: string;
  /** `null` until it starts. */
  readonly place: Place | null;
  readonly parentId: string | null;
  /** Counts the turns of the session in the order they came. */
  readonly n: number;
  readonly kind: TurnKind;
  readonly state: TurnState;
  readonly stopReason: StopReason | null;
  readonly priority: number;
  readonly actor: string;
  readonly inputHash: string;
  readonly outputHash: string | null;
  readonly canonId: string | null;
  /** Hash over the chain of its parent, its texts and its canon. */
  readonly chain: string | null;
  readonly idemKey: string | null;
  readonly idemHash: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  /** What its request asked for, as the engine wrote it. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
}

export type NewTurn = Pick<
  TurnRecord,
  | "id"
  | "sessionId"
  | "branchId"
  | "n"
  | "kind"
  | "priority"
  | "actor"
  | "inputHash"
  | "idemKey"
  | "idemHash"
  | "options"
  | "queuedAt"
  | "parentId"
>;

export type StepState = "intent" | "done" | "failed" | "unknown" | "dropped";

export interface StepRecord {
  readonly turnId: string;
  readonly n: number;
  readonly attempt: number;
  readonly kind: "call";
  readonly state: StepState;
  /** Provider and model. */
  readonly name: string;
  /** The receipt. */
  readonly requestHash: string;
  /** The text that came. */
  readonly resultHash: string | null;
  readonly data: Readonly<Record<string, unknown>> | null;
  readonly startedAt: number;
  readonly endedAt: number | null;
}

export interface ChunkRecord {
  readonly turnId: string;
  readonly n: number;
  readonly attempt: number;
  readonly i: number;
  readonly kind: "text" | "reasoning";
  readonly body: string;
}

/** What a later turn is told of it. */
type PastRecord = Pick<TurnRecord, "id" | "inputHash" | "outputHash">;
type PastRow = Pick<TurnRow, "id" | "input_hash" | "output_hash">;

export interface EndTurn {
  readonly id: string;
  /** It ends only out of one of these. */
  readonly from: readonly TurnState[];
  readonly to: TurnState;
  readonly stopReason: StopReason;
  readonly outputHash?: string;
  readonly chain?: string;
  readonly error?: { readonly code: string; readonly message: string };
  readonly at: number;
}

export interface Turns {
  /** False: the session has a turn with that key. */
  add(turn: NewTurn): Promise<boolean>;
  get(id: string): Promise<TurnRecord | undefined>;
  byKey(sessionId: string, key: string): Promise<TurnRecord | undefined>;
  /** Waiting to begin, in the order they came; `sessionId` absent: of all. */
  queued(sessionId?: string): Promise<readonly TurnRecord[]>;
  /** Begun and not ended. */
  open(sessionId?: string): Promise<readonly TurnRecord[]>;
  /** Out of the queue; false: it is no longer there, or another of its session runs. */
  start(id: string, start: StartTurn): Promise<boolean>;
  /** False: it was in none of those states. */
  end(end: EndTurn): Promise<boolean>;
  /** The last turns on the path to a place, oldest first. */
  upTo(sessionId: string, place: Place, last: number): Promise<readonly PastRecord[]>;
  /** The turns that follow this one at once. */
  children(sessionId: string, parentId: string): Promise<readonly TurnRecord[]>;
  page(sessionId: string, after: number, limit: number): Promise<readonly TurnRecord[]>;
  intend(step: Omit<StepRecord, "state" | "resultHash" | "data" | "endedAt"> & { readonly sessionId: string }): Promise<void>;
  /** Only out of `intent`; false: it was none. */
  settle(step: Pick<StepRecord, "turnId" | "n" | "attempt" | "state" | "resultHash" | "data" | "endedAt">): Promise<boolean>;
  steps(turnId: string): Promise<readonly StepRecord[]>;
  addChunks(chunks: readonly ChunkRecord[]): Promise<void>;
  chunks(
    turnId: string,
    attempt: { readonly n: number; readonly attempt: number; readonly from?: number },
  ): Promise<readonly ChunkRecord[]>;
  /** What the step holds whole needs no chunks. */
  dropChunks(turnId: string): Promise<void>;
}

interface StartTurn {
  readonly place: Place;
  readonly parentId: string | null;
  readonly canonId: string;
  readonly at: number;
}

interface TurnRow {
  readonly id: string;
  readonly session_id: string;
  readonly branch_id: string;
  readonly lane: number | null;
  readonly depth: number | null;
  readonly parent_id: string | null;
  readonly n: number;
  readonly kind: TurnKind;
  readonly state: TurnState;
  readonly stop_reason: StopReason | null;
  readonly priority: number;
  readonly actor: string;
  readonly input_hash: string;
  readonly output_hash: string | null;
  readonly canon_id: string | null;
  readonly chain: string | null;
  readonly idem_key: string | null;
  readonly idem_hash: string | null;
  readonly error: string | null;
  readonly options: string;
  readonly queued_at: number;
  readonly started_at: number | null;
  readonly ended_at: number | null;
}

interface StepRow {
  readonly turn_id: string;
  readonly n: number;
  readonly attempt: number;
  readonly kind: "call";
  readonly state: StepState;
  readonly name: string;
  readonly request_hash: string;
  readonly result_hash: string | null;
  readonly data: string | null;
  readonly started_at: number;
  readonly ended_at: number | null;
}

interface ChunkRow {
  readonly turn_id: string;
  readonly n: number;
  readonly attempt: number;
  readonly i: number;
  readonly kind: "text" | "reasoning";
  readonly body: string;
}

const OPEN = "state in ('running', 'waiting')";

export function turnsOf(sql: Sql): Turns {
  const many = async (text: string, values: readonly (string | number)[]): Promise<readonly TurnRecord[]> =>
    (await sql.all<TurnRow>(text, values)).map(turnOf);
  const inState = (where: string, order: string) => async (sessionId?: string) =>
    await many(
      `select * from loom_turn where ${where}${sessionId === undefined ? "" : " and session_id = ?"} order by ${order}`,
      sessionId === undefined ? [] : [sessionId],
    );
  return {
    add: (turn) => add(sql, turn),
    get: async (id) => (await many("select * from loom_turn where id = ?", [id]))[0],
    byKey: async (sessionId, key) => (await many("select * from loom_turn where session_id = ? and idem_key = ?", [sessionId, key]))[0],
    queued: inState("state = 'queued'", "queued_at, n"),
    open: inState(OPEN, "queued_at, n"),
    start: (id, request) => start(sql, id, request),
    end: (request) => end(sql, request),
    upTo: async (sessionId, place, last) => {
      const select = `select t.id, t.input_hash, t.output_hash from path
        join loom_turn t on t.session_id = ? and t.lane = path.lane and t.depth <= path.upto order by t.depth desc limit ?`;
      const rows = await sql.all<PastRow>(onPath(select), [...pathValues(sessionId, place), sessionId, last]);
      return rows.toReversed().map(({ id, input_hash: inputHash, output_hash: outputHash }) => ({ id, inputHash, outputHash }));
    },
    children: (sessionId, parentId) =>
      many("select * from loom_turn where session_id = ? and parent_id = ? order by n", [sessionId, parentId]),
    page: (sessionId, after, limit) =>
      many("select * from loom_turn where session_id = ? and n > ? order by n limit ?", [sessionId, after, limit]),
    ...journalOf(sql),
  };
}

type Journal = Pick<Turns, "intend" | "settle" | "steps" | "addChunks" | "chunks" | "dropChunks">;

function journalOf(sql: Sql): Journal {
  return {
    intend: async ({ sessionId, turnId, n, attempt, kind, name, requestHash, startedAt }) => {
      const place = { session_id: sessionId, turn_id: turnId, n, attempt };
      await sql.insert("loom_step", [{ ...place, kind, state: "intent", name, request_hash: requestHash, started_at: startedAt }]);
    },
    settle: async ({ turnId, n, attempt, state, resultHash, data, endedAt }) => {
      const text = `update loom_step set state = ?, result_hash = ?, data = ?, ended_at = ?
        where turn_id = ? and n = ? and attempt = ? and state = 'intent'`;
      const told = data === null ? null : JSON.stringify(data);
      return (await sql.run(text, [state, resultHash, told, endedAt, turnId, n, attempt])) === 1;
    },
    steps: async (turnId) =>
      (await sql.all<StepRow>("select * from loom_step where turn_id = ? order by n, attempt", [turnId])).map((row) => ({
        ...{ turnId: row.turn_id, n: row.n, attempt: row.attempt, kind: row.kind, state: row.state, name: row.name },
        ...{ requestHash: row.request_hash, resultHash: row.result_hash, startedAt: row.started_at, endedAt: row.ended_at },
        data: row.data === null ? null : (JSON.parse(row.data) as Readonly<Record<string, unknown>>),
      })),
    addChunks: async (chunks) =>
      await sql.insert(
        "loom_chunk",
        chunks.map(({ turnId, n, attempt, i, kind, body }) => ({ turn_id: turnId, n, attempt, i, kind, body })),
      ),
    chunks: async (turnId, { n, attempt, from = 0 }) => {
      const text = "select * from loom_chunk where turn_id = ? and n = ? and attempt = ? and i >= ? order by i";
      const rows = await sql.all<ChunkRow>(text, [turnId, n, attempt, from]);
      return rows.map(({ turn_id, ...row }) => ({ turnId: turn_id, ...row }));
    },
    dropChunks: async (turnId) => {
      await sql.run("delete from loom_chunk where turn_id = ?", [turnId]);
    },
  };
}

async function add(sql: Sql, turn: NewTurn): Promise<boolean> {
  const { id, sessionId, branchId, parentId, n, kind, priority, actor, inputHash, idemKey, idemHash, options, queuedAt } = turn;
  const text = `insert into loom_turn (id, session_id, branch_id, parent_id, n, kind, state, priority, actor, input_hash, idem_key, idem_hash,
    options, queued_at) values (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`;
  const first = [id, sessionId, branchId, parentId, n, kind, priority, actor, inputHash, idemKey, idemHash];
  return (await sql.run(text, [...first, JSON.stringify(options), queuedAt])) === 1;
}

async function start(sql: Sql, id: string, { place, parentId, canonId, at }: StartTurn): Promise<boolean> {
  const text = `update loom_turn set state = 'running', lane = ?, depth = ?, parent_id = ?, canon_id = ?, started_at = ?
    where id = ? and state = 'queued' and not exists (select 1 from loom_turn o where o.session_id = loom_turn.session_id and o.${OPEN})`;
  return (await sql.run(text, [place.lane, place.depth, parentId, canonId, at, id])) === 1;
}

async function end(sql: Sql, { id, from, to, stopReason, outputHash, chain, error, at }: EndTurn): Promise<boolean> {
  const text = `update loom_turn set state = ?, stop_reason = ?, output_hash = ?, chain = ?, error = ?, ended_at = ?
    where id = ? and state in (${from.map(() => "?").join(", ")})`;
  const told = error === undefined ? null : JSON.stringify(error);
  return (await sql.run(text, [to, stopReason, outputHash ?? null, chain ?? null, told, at, id, ...from])) === 1;
}

function turnOf(row: TurnRow): TurnRecord {
  const { id, session_id: sessionId, branch_id: branchId, lane, depth, parent_id: parentId, n, kind, state, stop_reason: stopReason } = row;
  return {
    ...{ id, sessionId, branchId, parentId, n, kind, state, stopReason },
    place: lane === null || depth === null ? null : { lane, depth },
    ...{ priority: row.priority, actor: row.actor, inputHash: row.input_hash, outputHash: row.output_hash, canonId: row.canon_id },
    ...{ chain: row.chain, idemKey: row.idem_key, idemHash: row.idem_hash },
    error: row.error === null ? null : (JSON.parse(row.error) as NonNullable<TurnRecord["error"]>),
    options: JSON.parse(row.options) as Readonly<Record<string, unknown>>,
    ...{ queuedAt: row.queued_at, startedAt: row.started_at, endedAt: row.ended_at },
  };
}
