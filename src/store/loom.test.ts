// Loom's tables in both databases: versions, events, leases, and the tree against a slow oracle. Real SQLite in a file, real PostgreSQL;
// one database of each kind serves the whole file, each test with sessions of its own.

import fc from "fast-check";
import { Kysely, sql } from "kysely";
import { afterAll, describe, expect, type TestContext } from "vitest";
import { DATABASES, freshDatabases, T0 } from "../../test/fixtures/databases.ts";
import { verifies } from "../../test/verifies.ts";
import { textHash } from "./loom-blobs.ts";
import type { NewSession } from "./loom-sessions.ts";
import type { Place } from "./loom-tree.ts";
import type { NewTurn } from "./loom-turns.ts";
import { postgresDialect } from "./postgres.ts";
import { openSqlite } from "./sqlite.ts";
import { openStore, type Store, type StoreOptions } from "./store.ts";

const fresh = freshDatabases();
const opened = new Map<string, { readonly store: Store; readonly options: StoreOptions }>();
afterAll(async () => {
  for (const { store } of opened.values()) await store[Symbol.asyncDispose]();
});

async function both(kind: (typeof DATABASES)[number], context: TestContext) {
  const held = opened.get(kind);
  if (held !== undefined) return held;
  const options = await fresh(kind, context);
  const made = { store: await openStore(options), options };
  opened.set(kind, made);
  return made;
}

async function given(kind: (typeof DATABASES)[number], context: TestContext): Promise<Store> {
  return (await both(kind, context)).store;
}

const FORBIDDEN = [
  "update loom_event set data = '{}'",
  "delete from loom_event",
  "update loom_blob set size = 0",
  "delete from loom_blob",
  "update loom_turn set input_hash = 'other'",
  "delete from loom_turn",
  "update loom_step set result_hash = 'y'",
  "update loom_step set result_hash = null",
];

let made = 0;
function session(more: Partial<NewSession> = {}): NewSession {
  const id = `ses${++made}`;
  const fixed = { worldId: "wld1", ownerId: "ann", name: "one", type: "play", canonId: "can1", config: {}, seed: "s", createdAt: T0 };
  return { id, branchId: `br${id}`, ...fixed, ...more };
}

function turn({ id: sessionId, branchId }: NewSession, n: number, more: Partial<NewTurn> = {}): NewTurn {
  const fixed = { kind: "say", priority: 50, actor: "ann", inputHash: textHash("in"), idemKey: null, idemHash: null } as const;
  return { id: `turn${sessionId}x${n}`, sessionId, branchId, n, ...fixed, options: {}, queuedAt: T0, parentId: null, ...more };
}

/** Begins and ends a turn behind `parent`. */
async function played(store: Store, where: NewSession, { n, parent }: { readonly n: number; readonly parent: Place | undefined }) {
  return await store.transaction(async ({ loom }) => {
    const row = turn(where, n);
    await loom.turns.add(row);
    const place = await loom.tree.take(where.id, parent);
    expect(await loom.turns.start(row.id, { place, parentId: null, canonId: "can1", at: T0 })).toBe(true);
    await loom.turns.end({ id: row.id, from: ["running"], to: "done", stopReason: "end", outputHash: "o", chain: "c", at: T0 });
    return { id: row.id, place };
  });
}

describe.each(DATABASES)("Loom in %s", (kind) => {
  verifies("loom/canon-versions", "the same files are one version of a world, others are the next one", async (context) => {
    const store = await given(kind, context);
    const id = `wld${++made}`;
    await store.loom.worlds.add({ id, ownerId: "ann", name: "w", kind: "story", createdAt: T0 });
    const add = (version: string, hash: string) =>
      store.transaction(({ loom }) =>
        loom.worlds.addCanon({ id: `${id}${version}`, worldId: id, hash, files: { "main.md": hash }, lint: [], createdAt: T0 }),
      );
    expect([(await add("a", "h1")).n, (await add("b", "h2")).n, (await add("c", "h1")).n]).toEqual([1, 2, 1]);
    expect((await store.loom.worlds.get(id, "ann"))?.canonId).toBe(`${id}a`);
    expect(await store.loom.worlds.get(id, "bob")).toBeUndefined();
    expect((await store.loom.worlds.canons(id)).map(({ id: canon, parentId }) => [canon, parentId])).toEqual([
      [`${id}b`, `${id}a`],
      [`${id}a`, null],
    ]);
    await expect(
      store.transaction(({ loom }) => loom.worlds.addCanon({ id: "x", worldId: "no", hash: "h", files: {}, lint: [], createdAt: T0 })),
    ).rejects.toMatchObject({ code: "world_not_found" });
  });

  verifies("loom/blob-owned", "a text is kept with its owner and is what its hash says", async (context) => {
    const store = await given(kind, context);
    const texts = ["kurz", "长".repeat(400), ""];
    const hashes = await store.loom.blobs.put("ses-a", texts);
    expect(hashes).toEqual(texts.map((text) => textHash(text)));
    await store.loom.blobs.put("ses-a", texts); // once more: nothing happens
    expect(await Promise.all(hashes.map((hash) => store.loom.blobs.get("ses-a", hash)))).toEqual(texts);
    await expect(store.loom.blobs.get("ses-b", hashes[0] ?? "")).rejects.toMatchObject({ code: "internal" });
  });

  verifies("loom/event-seq-gapless", "events of a session count up by one, whoever appends at once", async (context) => {
    const store = await given(kind, context);
    const one = session();
    await store.transaction(({ loom }) => loom.sessions.add([one]));
    const append = (i: number) =>
      store.transaction(({ loom }) =>
        loom.sessions.append(one.id, { at: T0 + i, events: [{ kind: "head-move" }, { kind: "turn-queue", data: { i } }] }),
      );
    await Promise.all(Array.from({ length: 8 }, (_, i) => append(i)));
    const failing = store.transaction(async ({ loom }) => {
      await loom.sessions.append(one.id, { at: T0, events: [{ kind: "head-move" }] });
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    const events = await store.loom.sessions.events(one.id, { seq: 0 });
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 17 }, (_, i) => i + 1));
    expect((await store.loom.sessions.get(one.id))?.seq).toBe(17);
  });

  verifies("loom/one-writer-fenced", "a lease has one holder, and who lost it changes nothing more", async (context) => {
    const store = await given(kind, context);
    const one = session();
    await store.transaction(({ loom }) => loom.sessions.add([one]));
    const lease = (writer: string, seen: string | null) => store.transaction(({ loom }) => loom.sessions.lease(one.id, { writer, seen }));
    const first = await lease("w1", null);
    expect([first, await lease("w2", null), await lease("w2", "w1"), await lease("w3", "w1")]).toEqual([1, undefined, 2, undefined]);
    const append = (epoch: number) =>
      store.transaction(({ loom }) => loom.sessions.append(one.id, { at: T0, events: [{ kind: "head-move" }], epoch }));
    expect([await append(1), await append(2)]).toEqual([false, true]);
    await store.loom.sessions.release(one.id, 1);
    expect((await store.loom.sessions.get(one.id))?.writer).toBe("w2");
  });

  verifies("loom/one-turn-runs", "of one session one turn runs at a time, and an end state never changes", async (context) => {
    const store = await given(kind, context);
    const one = session();
    await store.transaction(({ loom }) => loom.sessions.add([one]));
    for (const n of [1, 2]) expect(await store.loom.turns.add(turn(one, n))).toBe(true);
    expect(await store.loom.turns.add(turn(one, 3, { idemKey: "k" }))).toBe(true);
    expect(await store.loom.turns.add(turn(one, 4, { idemKey: "k" }))).toBe(false);
    const ids = (await store.loom.turns.queued(one.id)).map(({ id }) => id);
    const begin = (id: string, depth: number) =>
      store.loom.turns.start(id, { place: { lane: 1, depth }, parentId: null, canonId: "can1", at: T0 });
    expect([await begin(ids[0] ?? "", 1), await begin(ids[1] ?? "", 2), await begin(ids[0] ?? "", 1)]).toEqual([true, false, false]);
    const stop = { id: ids[0] ?? "", from: ["running"], to: "cancelled", stopReason: "cancelled", at: T0 } as const;
    expect([await store.loom.turns.end(stop), await store.loom.turns.end(stop)]).toEqual([true, false]);
    expect((await store.loom.turns.byKey(one.id, "k"))?.n).toBe(3);
  });

  verifies("loom/path-oracle", "what is visible from a turn is what a copy of the history at each fork would hold", async (context) => {
    const store = await given(kind, context);
    const runs = kind === "sqlite" ? 25 : 6;
    const parents = fc.array(fc.nat({ max: 1000 }), { minLength: 1, maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(parents, async (picks) => {
        const one = session();
        await store.transaction(({ loom }) => loom.sessions.add([one]));
        const turns: { readonly id: string; readonly place: Place; readonly history: readonly string[] }[] = [];
        for (const [i, pick] of picks.entries()) {
          // Often the newest, so that lanes grow long; 0 of the rest is a first turn.
          const parent = pick % 2 === 0 ? turns.at(-1) : turns[(pick % (turns.length + 1)) - 1];
          const { id, place } = await played(store, one, { n: i + 1, parent: parent?.place });
          turns.push({ id, place, history: [...(parent?.history ?? []), id] });
        }
        for (const { place, history } of turns) {
          expect(place.depth).toBe(history.length);
          expect((await store.loom.turns.upTo(one.id, place, 1000)).map(({ id }) => id)).toEqual(history);
        }
      }),
      { numRuns: runs, seed: 6 },
    );
  });

  verifies("loom/branch-costs-a-row", "a branch has a name of its own, and its head moves alone", async (context) => {
    const store = await given(kind, context);
    const one = session();
    await store.transaction(({ loom }) => loom.sessions.add([one]));
    const first = await played(store, one, { n: 1, parent: undefined });
    const branch = { id: `${one.branchId}b`, sessionId: one.id, name: "other", headId: first.id, forkedAt: first.id, createdAt: T0 };
    expect(await store.loom.tree.addBranch(branch)).toBe(true);
    expect(await store.loom.tree.addBranch({ ...branch, id: `${one.branchId}c` })).toBe(false);
    await store.loom.tree.moveHead(one.branchId, first.id);
    await store.loom.tree.moveHead(branch.id, null);
    expect((await store.loom.tree.branches(one.id)).map(({ name, headId }) => [name, headId])).toEqual([
      ["main", first.id],
      ["other", null],
    ]);
  });

  verifies("loom/content-rows-immutable", "the database itself refuses to change or remove what was said", async (context) => {
    const { store, options } = await both(kind, context);
    const one = session();
    await store.transaction(async ({ loom }) => {
      await loom.sessions.add([one]);
      await loom.turns.add(turn(one, 1, { idemKey: "k1" }));
    });
    await store.loom.blobs.put(one.id, ["said"]);
    const place = { turnId: `turn${one.id}x1`, n: 1, attempt: 1 };
    await store.loom.turns.intend({ ...place, sessionId: one.id, kind: "call", name: "p/m", requestHash: "r", startedAt: T0 });
    await store.loom.turns.settle({ ...place, state: "done", resultHash: "x", data: null, endedAt: T0 });
    const raw = new Kysely<unknown>({ dialect: options.kind === "sqlite" ? openSqlite(options).dialect : postgresDialect(options) });
    for (const text of FORBIDDEN)
      await expect(sql.raw(text).execute(raw), text).rejects.toThrow(/rows of loom_\w+ are not (?:update|delete)d/);
    // A purge, in its own transaction, is let through.
    await raw.transaction().execute(async (inside) => {
      await sql`insert into loom_purge (session_id) values (${one.id})`.execute(inside);
      for (const table of ["loom_event", "loom_turn", "loom_step"])
        await sql`delete from ${sql.table(table)} where session_id = ${one.id}`.execute(inside);
      await sql`delete from loom_blob where owner = ${one.id}`.execute(inside);
      await sql`delete from loom_purge`.execute(inside);
    });
    await raw.destroy();
    expect(await store.loom.sessions.events(one.id, { seq: 0 })).toEqual([]);
  });
});
