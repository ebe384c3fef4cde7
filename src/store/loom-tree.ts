// The tree of a session: branches, the lanes on which turns lie, and the one question of ancestry. A lane is an unforked run of turns;
// (lane, depth) places a turn. No other file asks what is visible from where. Invariant: a turn's path never changes, a branch costs one row
// at any depth, and a turn of a sibling is never on a path.

import { CorralError } from "../api/errors.ts";
import type { Sql } from "./loom-sql.ts";

export interface BranchRecord {
  readonly id: string;
  readonly sessionId: string;
  readonly name: string;
  /** The turn that the next one follows; `null`: nothing was said yet. */
  readonly headId: string | null;
  /** The turn at which it left another branch. */
  readonly forkedAt: string | null;
  readonly createdAt: number;
}

/** Where a turn lies. */
export interface Place {
  readonly lane: number;
  readonly depth: number;
}

/** All of a lane up to a depth. */
export interface Stretch {
  readonly lane: number;
  readonly upto: number;
}

export interface LaneRecord {
  readonly lane: number;
  /** Its first turn lies one below this. */
  readonly parentDepth: number;
  readonly tip: number;
}

export interface Tree {
  branch(id: string): Promise<BranchRecord | undefined>;
  branchNamed(sessionId: string, name: string): Promise<BranchRecord | undefined>;
  branches(sessionId: string): Promise<readonly BranchRecord[]>;
  /** False: the session has a branch of that name. */
  addBranch(branch: BranchRecord): Promise<boolean>;
  moveHead(branchId: string, headId: string | null): Promise<void>;
  /** Call it in a transaction that holds the session. The place behind `parent`, taken: its lane's next, or the first of a new lane. */
  take(sessionId: string, parent: Place | undefined): Promise<Place>;
  lanes(sessionId: string): Promise<readonly LaneRecord[]>;
  /** The lanes that lead to a place, its own first. */
  path(sessionId: string, place: Place): Promise<readonly Stretch[]>;
}

interface BranchRow {
  readonly id: string;
  readonly session_id: string;
  readonly name: string;
  readonly head_id: string | null;
  readonly forked_at: string | null;
  readonly created_at: number;
}

const PATH = `with recursive path (lane, upto) as (
  select lane, cast(? as bigint) from loom_lane where session_id = ? and lane = ?
  union all
  select l.parent_lane, cast(l.parent_depth as bigint) from path join loom_lane l on l.session_id = ? and l.lane = path.lane
  where l.parent_lane is not null)`;

/** A query over rows that lie on the path to a place; its values go first, in the order of `pathValues`. */
export function onPath(select: string): string {
  return `${PATH} ${select}`;
}

/** The values of `onPath`'s text before those of its own. */
export function pathValues(sessionId: string, { lane, depth }: Place): readonly [number, string, number, string] {
  return [depth, sessionId, lane, sessionId];
}

export function treeOf(sql: Sql): Tree {
  const named = async (column: string, values: readonly string[]): Promise<BranchRecord | undefined> => {
    const row = await sql.one<BranchRow>(`select * from loom_branch where ${column}`, values);
    return row === undefined ? undefined : branchOf(row);
  };
  return {
    branch: (id) => named("id = ?", [id]),
    branchNamed: (sessionId, name) => named("session_id = ? and name = ?", [sessionId, name]),
    branches: async (sessionId) =>
      (await sql.all<BranchRow>("select * from loom_branch where session_id = ? order by created_at, id", [sessionId])).map(branchOf),
    addBranch: async ({ id, sessionId, name, headId, forkedAt, createdAt }) => {
      const text = `insert into loom_branch (id, session_id, name, head_id, forked_at, created_at) values (?, ?, ?, ?, ?, ?)
        on conflict do nothing`;
      return (await sql.run(text, [id, sessionId, name, headId, forkedAt, createdAt])) === 1;
    },
    moveHead: async (branchId, headId) => {
      await sql.run("update loom_branch set head_id = ? where id = ?", [headId, branchId]);
    },
    lanes: async (sessionId) => {
      const text = "select lane, parent_depth, tip from loom_lane where session_id = ? order by lane";
      const rows = await sql.all<Omit<LaneRecord, "parentDepth"> & { readonly parent_depth: number }>(text, [sessionId]);
      return rows.map(({ parent_depth: parentDepth, ...row }) => ({ ...row, parentDepth }));
    },
    take: (sessionId, parent) => take(sql, sessionId, parent),
    path: async (sessionId, place) => await sql.all<Stretch>(onPath("select lane, upto from path"), pathValues(sessionId, place)),
  };
}

async function take(sql: Sql, sessionId: string, parent: Place | undefined): Promise<Place> {
  if (parent !== undefined) {
    const next = "update loom_lane set tip = tip + 1 where session_id = ? and lane = ? and tip = ?";
    if ((await sql.run(next, [sessionId, parent.lane, parent.depth])) === 1) return { lane: parent.lane, depth: parent.depth + 1 };
  }
  const row = await sql.one<{ readonly lanes: number }>("update loom_session set lanes = lanes + 1 where id = ? returning lanes", [
    sessionId,
  ]);
  if (row === undefined) throw new CorralError("session_not_found", `there is no session ${sessionId}`);
  const place = { lane: row.lanes, depth: (parent?.depth ?? 0) + 1 };
  const values = [sessionId, place.lane, parent?.lane ?? null, parent?.depth ?? 0, place.depth];
  await sql.run("insert into loom_lane (session_id, lane, parent_lane, parent_depth, tip) values (?, ?, ?, ?, ?)", values);
  return place;
}

function branchOf(row: BranchRow): BranchRecord {
  const { id, session_id: sessionId, name, head_id: headId, forked_at: forkedAt, created_at: createdAt } = row;
  return { id, sessionId, name, headId, forkedAt, createdAt };
}
