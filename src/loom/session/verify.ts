// Whether what is derived agrees with what was said: heads, lanes, ends, chains and numbers of a session, built anew from the rows that never
// change. It repairs nothing. Invariant: a session that only the engine wrote to has nothing to find, whenever its process was killed.

import type { LoomEvent } from "../../api/loom.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { SessionRecord } from "../../store/loom-sessions.ts";
import type { TurnRecord } from "../../store/loom-turns.ts";
import { chainOf } from "../turn/journal.ts";

const PAGE = 100;

/** What does not agree, each in one line; empty: all does. */
export async function verifySession(loom: LoomTables, session: SessionRecord): Promise<readonly string[]> {
  const events = await allOf(
    (seq) => loom.sessions.events(session.id, { seq, limit: PAGE }),
    (event) => event.seq,
  );
  const turns = await allOf(
    (n) => loom.turns.page(session.id, n, PAGE),
    (turn) => turn.n,
  );
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  return [
    ...numbers(session, events, turns),
    ...ends(events, turns),
    ...(await lanes(loom, session, turns)),
    ...(await heads(loom, session, events)),
    ...(await texts(loom, session, turns)),
    ...turns.flatMap((turn) => chain(turn, byId)),
    ...(session.writer !== null && !turns.some(({ state }) => state === "running")
      ? [`${session.writer} holds a lease and no turn runs`]
      : []),
  ];
}

async function allOf<T>(page: (after: number) => Promise<readonly T[]>, numberOf: (row: T) => number): Promise<readonly T[]> {
  const all: T[] = [];
  for (;;) {
    const last = all.at(-1);
    const more = await page(last === undefined ? 0 : numberOf(last));
    if (more.length === 0) return all;
    all.push(...more);
  }
}

function numbers(session: SessionRecord, events: readonly LoomEvent[], turns: readonly TurnRecord[]): readonly string[] {
  const gap = events.findIndex(({ seq }, i) => seq !== i + 1);
  return [
    ...(gap < 0 ? [] : [`event ${gap + 1} is missing`]),
    ...(session.seq === events.length ? [] : [`the session counts ${session.seq} events and has ${events.length}`]),
    ...(turns.some(({ n }) => n > session.turns) ? [`a turn has a number above ${session.turns}`] : []),
  ];
}

/** Each turn came once and ended at most once, as its row says. */
function ends(events: readonly LoomEvent[], turns: readonly TurnRecord[]): readonly string[] {
  const of = (kind: string): Map<string, LoomEvent[]> =>
    Map.groupBy(
      events.filter((event) => event.kind === kind),
      ({ turnId = "" }) => turnId,
    );
  const [queued, ended] = [of("turn-queue"), of("turn-end")];
  return turns.flatMap(({ id, state }) => {
    const over = state !== "queued" && state !== "running" && state !== "waiting";
    const told = ended.get(id) ?? [];
    return [
      ...(queued.get(id)?.length === 1 ? [] : [`${id} was not told to come once`]),
      ...(told.length === Number(over) ? [] : [`${id} is ${state} and was told to end ${told.length} times`]),
      ...(told.every(({ data }) => data["state"] === state) ? [] : [`${id} is ${state} and was told to end otherwise`]),
    ];
  });
}

async function lanes({ tree }: LoomTables, session: SessionRecord, turns: readonly TurnRecord[]): Promise<readonly string[]> {
  const placed = Map.groupBy(
    turns.filter(({ place }) => place !== null),
    ({ place }) => place?.lane ?? 0,
  );
  const rows = await tree.lanes(session.id);
  return [
    ...(rows.length === session.lanes ? [] : [`the session counts ${session.lanes} lanes and has ${rows.length}`]),
    ...rows.flatMap(({ lane, tip, parentDepth }) => {
      const depths = (placed.get(lane) ?? []).map(({ place }) => place?.depth ?? 0).sort((one, other) => one - other);
      const whole = depths.length > 0 && depths.every((depth, i) => depth === parentDepth + 1 + i);
      return whole && depths.at(-1) === tip ? [] : [`lane ${lane} ends at ${tip} and holds ${depths.join(" ")}`];
    }),
  ];
}

/** Where each branch stands by the moves that were told. */
async function heads({ tree }: LoomTables, session: SessionRecord, events: readonly LoomEvent[]): Promise<readonly string[]> {
  const stands = new Map<unknown, unknown>();
  for (const { kind, data } of events) {
    if (kind === "session-create") stands.set(data["branchId"], null);
    if (kind === "branch-create") stands.set(data["branchId"], data["turnId"]);
    if (kind === "head-move") stands.set(data["branchId"], data["to"]);
  }
  const branches = await tree.branches(session.id);
  return [
    ...(branches.length === stands.size ? [] : [`${branches.length} branches are there and ${stands.size} were told`]),
    ...branches.flatMap(({ id, name, headId }) =>
      stands.get(id) === headId ? [] : [`the branch ${name} does not stand where it was told to`],
    ),
  ];
}

async function texts({ blobs }: LoomTables, { id }: SessionRecord, turns: readonly TurnRecord[]): Promise<readonly string[]> {
  const wanted = turns.flatMap(({ inputHash, outputHash }) => [inputHash, ...(outputHash === null ? [] : [outputHash])]);
  const found = await blobs.many(id, wanted);
  return wanted.filter((hash) => !found.has(hash)).map((hash) => `the text ${hash} is missing`);
}

function chain(turn: TurnRecord, byId: ReadonlyMap<string, TurnRecord>): readonly string[] {
  if (turn.outputHash === null) return [];
  const parent = turn.parentId === null ? undefined : byId.get(turn.parentId);
  return chainOf(parent?.chain ?? "", turn, turn.outputHash) === turn.chain ? [] : [`the chain of ${turn.id} does not hold`];
}
