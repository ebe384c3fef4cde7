// What both databases must do, run on each: real SQLite in a file, real PostgreSQL.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Kysely, sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type TestContext } from "vitest";
import { Postgres, postgresMissing } from "../../test/fixtures/postgres.ts";
import { verifies } from "../../test/verifies.ts";
import { IDEMPOTENCY_MS } from "../api/limits.ts";
import { postgresDialect } from "./postgres.ts";
import type { SandboxRecord } from "./sandboxes.ts";
import { openSqlite } from "./sqlite.ts";
import { openStore, type Store, type StoreOptions } from "./store.ts";

const DATABASES = ["sqlite", "postgres"] as const;
const T0 = 1_800_000_000_000;

let server: Postgres | undefined;
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-store-");
  if (postgresMissing() === undefined) server = await Postgres.start();
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

let files = 0;
async function freshOptions(kind: (typeof DATABASES)[number]): Promise<StoreOptions | undefined> {
  if (kind === "sqlite") return { kind, file: join(dir, `${++files}.db`) };
  return server === undefined ? undefined : { kind, url: await server.fresh() };
}

function record(id: string, more: Partial<SandboxRecord> = {}): SandboxRecord {
  const base = {
    ownerId: "ann",
    nodeId: "node1",
    state: "running",
    request: { cpus: 1 },
    info: {},
    onTimeout: "kill",
    metadata: {},
  } as const;
  return { id, ...base, createdAt: T0, updatedAt: T0, endAt: null, memory: null, ...more };
}

/** Every value of every table, as one text. */
async function dump(options: StoreOptions): Promise<string> {
  const db = new Kysely<Record<string, Record<string, unknown>>>({
    dialect: options.kind === "sqlite" ? openSqlite(options).dialect : postgresDialect(options),
  });
  const tables = await db.introspection.getTables();
  const all: unknown[] = [];
  for (const { name } of tables) all.push(await db.selectFrom(name).selectAll().execute());
  await db.destroy();
  return JSON.stringify(all);
}

describe.each(DATABASES)("a store in %s", (kind) => {
  let options: StoreOptions | undefined;
  let opened: Store | undefined;

  beforeEach(async () => {
    options = await freshOptions(kind);
    opened = options === undefined ? undefined : await openStore(options);
  });
  afterEach(async () => {
    await opened?.[Symbol.asyncDispose]();
  });

  /** The store of this test, or the end of it with the reason. */
  function given(context: TestContext): { store: Store; options: StoreOptions } {
    if (opened === undefined || options === undefined) return context.skip(postgresMissing() ?? "PostgreSQL did not start");
    return { store: opened, options };
  }

  verifies("store/migrate-once", "opens over an old database, and many at once over an empty one", async (context) => {
    const { store, options: here } = given(context);
    const { secret } = await store.tokens.issue({ ownerId: "ann", scope: "user", name: "laptop", now: T0 });
    await using again = await openStore(here);
    expect(await again.tokens.find(secret, T0)).toMatchObject({ ownerId: "ann", name: "laptop" });
    const empty = await freshOptions(kind);
    if (empty === undefined) throw new Error("no database");
    // Processes each: SQLite inside one process would wait for itself in a blocking call.
    const many = kind === "postgres" ? await Promise.all(Array.from({ length: 4 }, () => openStore(empty))) : [await openStore(empty)];
    expect(await Promise.all(many.map((one) => one.tokens.any()))).not.toContain(true);
    for (const one of many) await one[Symbol.asyncDispose]();
  });

  verifies("store/secret-hashed", "keeps the hash of a key and the key nowhere", async (context) => {
    const { store, options: here } = given(context);
    const { token, secret } = await store.tokens.issue({ ownerId: "ann", scope: "admin", name: "first", now: T0 });
    const text = await dump(here);
    expect(text).toContain(token.id);
    expect(text).not.toContain(secret);
    expect(text).not.toContain(secret.slice(2, 20));
  });

  it("finds a key until it is revoked or expires, and lists it without its secret", async (context) => {
    const { store } = given(context);
    const asked = { ownerId: "ann", scope: "sandbox", sandboxId: "sb1", name: "agent", now: T0, expiresAt: T0 + 100 } as const;
    const { token, secret } = await store.tokens.issue(asked);
    expect(await store.tokens.find(secret, T0 + 99)).toEqual(token);
    expect(await store.tokens.find(secret, T0 + 100)).toBeUndefined();
    expect(await store.tokens.find(`${secret}x`, T0)).toBeUndefined();
    expect(await store.tokens.list("ann")).toEqual([token]);
    expect(await store.tokens.list("bob")).toEqual([]);
    expect(await store.tokens.revoke("bob", token.id, T0)).toBe(false);
    expect(await store.tokens.revoke("ann", token.id, T0)).toBe(true);
    expect(await store.tokens.revoke("ann", token.id, T0)).toBe(false);
    expect(await store.tokens.find(secret, T0)).toBeUndefined();
    await expect(store.tokens.issue({ ownerId: "ann", scope: "sandbox", name: "none", now: T0 })).rejects.toMatchObject({
      code: "request_invalid",
    });
  });

  verifies("store/owner-isolation", "another owner's sandbox is as one that never was", async (context) => {
    const { store } = given(context);
    await store.sandboxes.add(record("sb1", { metadata: { job: "7", team: "x" }, info: { runtime: "native" }, endAt: T0 + 5 }));
    expect(await store.sandboxes.get("sb1", "bob")).toBeUndefined();
    expect(await store.sandboxes.get("sb2", "ann")).toBeUndefined();
    expect(await store.sandboxes.get("sb1", "ann")).toEqual(
      record("sb1", { metadata: { job: "7", team: "x" }, info: { runtime: "native" }, endAt: T0 + 5 }),
    );
    expect((await store.sandboxes.list({ ownerId: "bob" })).items).toEqual([]);
    expect(await store.sandboxes.countLive("ann")).toBe(1);
    expect(await store.sandboxes.countLive("bob")).toBe(0);
  });

  verifies("store/pages", "pages tell each living sandbox once, newest first, while others come and go", async (context) => {
    const { store } = given(context);
    // Many of one millisecond: the time alone does not order them.
    const kept = Array.from({ length: 230 }, (_, index) => `sb${String(index).padStart(4, "0")}`);
    await store.transaction(async ({ sandboxes }) => {
      for (const [index, id] of kept.entries()) await sandboxes.add(record(id, { createdAt: T0 + Math.floor(index / 50) }));
    });
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.sandboxes.list({ ownerId: "ann", limit: 30, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.next;
      await store.sandboxes.add(record(`new${seen.length}`, { createdAt: T0 + 1_000 }));
      const gone = kept[seen.length + 40];
      if (seen.length === 60 && gone !== undefined)
        expect(await store.sandboxes.change({ id: gone, from: ["running"], to: "destroyed", now: T0 })).toBe(true);
    } while (cursor !== undefined);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toHaveLength(229);
    expect(seen[0]).toBe("sb0229");
    await expect(store.sandboxes.list({ cursor: "x' or 1=1" })).rejects.toMatchObject({ code: "request_invalid" });
  });

  it("filters by state and by every pair of metadata", async (context) => {
    const { store } = given(context);
    await store.sandboxes.add(record("sb1", { metadata: { job: "7", team: "x" } }));
    await store.sandboxes.add(record("sb2", { metadata: { job: "7" }, state: "paused" }));
    await store.sandboxes.add(record("sb3", { metadata: { job: "7" }, state: "destroyed" }));
    const ids = async (request: Parameters<Store["sandboxes"]["list"]>[0]): Promise<string[]> =>
      (await store.sandboxes.list(request)).items.map(({ id }) => id);
    expect(await ids({ metadata: { job: "7" } })).toEqual(["sb2", "sb1"]);
    expect(await ids({ metadata: { job: "7", team: "x" } })).toEqual(["sb1"]);
    expect(await ids({ metadata: { job: "' or ''='" } })).toEqual([]);
    expect(await ids({ states: ["destroyed", "paused"] })).toEqual(["sb3", "sb2"]);
  });

  verifies("store/renew-or-end", "of a renewal and an end that race, one happens: never renewed and gone", async (context) => {
    const { store } = given(context);
    for (let round = 0; round < 50; round += 1) {
      const id = `sb${round}`;
      await store.sandboxes.add(record(id, { endAt: T0 + 10 }));
      // Both clocks read the moment at which it ends.
      const now = T0 + (round % 2 === 0 ? 9 : 10);
      const [renewed, ended] = await Promise.all([
        store.sandboxes.renew(id, T0 + 1_000, now),
        store.sandboxes.change({ id, from: ["running"], to: "destroyed", now: T0 + 10, ifEnded: true }),
      ]);
      expect([renewed, ended]).toContain(true);
      expect(renewed && ended).toBe(false);
      const after = await store.sandboxes.get(id);
      expect(after?.state).toBe(ended ? "destroyed" : "running");
      expect(after?.endAt).toBe(renewed ? T0 + 1_000 : T0 + 10);
    }
  });

  verifies(
    "store/pause",
    "a pause is told with what is kept, moves the end with it, and one of two who race comes too late",
    async (context) => {
      const { store } = given(context);
      await store.sandboxes.add(record("sb1", { endAt: T0 + 10 }));
      const pause = { id: "sb1", from: ["running"], to: "paused", now: T0 + 10, memory: true, endAt: T0 + 99, ifEnded: true } as const;
      const raced = await Promise.all([
        store.sandboxes.change(pause),
        store.sandboxes.change({ id: "sb1", from: ["running"], to: "destroyed", now: T0 + 10, ifEnded: true }),
      ]);
      expect(raced.filter((won) => won)).toHaveLength(1);
      await store.sandboxes.add(record("sb2", { endAt: T0 + 10 }));
      expect(await store.sandboxes.change({ ...pause, id: "sb2" })).toBe(true);
      expect(await store.sandboxes.get("sb2")).toMatchObject({ state: "paused", memory: true, endAt: T0 + 99 });
      expect(await store.sandboxes.change({ id: "sb2", from: ["paused"], to: "paused", now: T0, memory: false })).toBe(true);
      expect(await store.sandboxes.get("sb2")).toMatchObject({ state: "paused", memory: false, endAt: T0 + 99 });
      expect(await store.sandboxes.change({ id: "sb2", from: ["paused"], to: "running", now: T0, endAt: null })).toBe(true);
      expect(await store.sandboxes.get("sb2")).toMatchObject({ state: "running", memory: null, endAt: null });
    },
  );

  it("tells which have ended, the longest overdue first, and none that is gone or has no end", async (context) => {
    const { store } = given(context);
    await store.sandboxes.add(record("sb1", { endAt: T0 + 2 }));
    await store.sandboxes.add(record("sb2", { endAt: T0 + 1 }));
    await store.sandboxes.add(record("sb3"));
    await store.sandboxes.add(record("sb4", { endAt: T0 + 9 }));
    await store.sandboxes.add(record("sb5", { endAt: T0, state: "destroyed" }));
    expect(await store.sandboxes.ended("node1", T0 + 2, 10)).toEqual(["sb2", "sb1"]);
    expect(await store.sandboxes.ended("node1", T0 + 2, 1)).toEqual(["sb2"]);
    await store.sandboxes.add(record("sb6", { endAt: T0, nodeId: "node2" }));
    expect(await store.sandboxes.ended("node1", T0 + 2, 10)).toEqual(["sb2", "sb1"]);
    expect((await store.sandboxes.list({ nodeId: "node2" })).items.map(({ id }) => id)).toEqual(["sb6"]);
  });

  verifies("store/compare-and-set", "of many who change one state at once, one succeeds", async (context) => {
    const { store } = given(context);
    await store.sandboxes.add(record("sb1"));
    const change = { id: "sb1", from: ["running"], to: "paused", now: T0 } as const;
    const results = await Promise.all(Array.from({ length: 20 }, () => store.sandboxes.change(change)));
    expect(results.filter(Boolean)).toHaveLength(1);
    await store.sandboxes.setInfo("sb1", { why: "asked" }, T0 + 1);
    expect(await store.sandboxes.get("sb1")).toMatchObject({ state: "paused", info: { why: "asked" }, updatedAt: T0 + 1 });
  });

  verifies("store/idempotent-once", "of many claims of one key at once, one wins and all learn its id", async (context) => {
    const { store } = given(context);
    const claim = (id: string, bodyHash = "a", now = T0): ReturnType<Store["idempotency"]["claim"]> =>
      store.idempotency.claim({ ownerId: "ann", key: "k", bodyHash, resultId: id, nodeId: "n1", now });
    const results = await Promise.all(Array.from({ length: 20 }, (_, index) => claim(`sb${index}`)));
    const winners = results.filter(({ won }) => won);
    expect(winners).toHaveLength(1);
    expect(new Set(results.map(({ resultId }) => resultId)).size).toBe(1);
    const [winner] = winners;
    expect(await claim("sbx", "b")).toEqual({ won: false, resultId: winner?.resultId, sameBody: false });
    expect(
      await store.idempotency.claim({ ownerId: "bob", key: "k", bodyHash: "a", resultId: "sby", nodeId: "n1", now: T0 }),
    ).toMatchObject({
      won: true,
    });
    await store.idempotency.release("ann", "k", "sbx"); // not its winner
    expect(await claim("sbz")).toMatchObject({ won: false });
    await store.idempotency.release("ann", "k", winner?.resultId ?? "");
    expect(await claim("sbz")).toMatchObject({ won: true });
    expect(await claim("sblate", "c", T0 + IDEMPOTENCY_MS)).toMatchObject({ won: true });
    expect(await store.idempotency.sweep(T0 + IDEMPOTENCY_MS)).toBe(1); // bob's
  });

  verifies(
    "store/idempotent-crash",
    "a key whose server died before it wrote anything down is free for that server's next start",
    async (context) => {
      const { store } = given(context);
      const claim = (key: string, resultId: string, nodeId = "n1"): ReturnType<Store["idempotency"]["claim"]> =>
        store.idempotency.claim({ ownerId: "eve", key, bodyHash: "a", resultId, nodeId, now: T0 });
      await store.sandboxes.add(record("sbwritten"));
      for (const [key, id] of [
        ["one", "sbwritten"],
        ["two", "sbnever"],
        ["three", "cbnever"],
        ["four", "xxother"],
      ] as const)
        await claim(key, id);
      await claim("five", "sbother", "n2");
      await store.idempotency.releaseUnwritten("n1");
      const again = await Promise.all(["one", "two", "three", "four", "five"].map((key) => claim(key, "sbagain")));
      expect(again.map(({ won }) => won)).toEqual([false, true, true, false, false]);
    },
  );

  it("keeps events and audit lines in order, each for its owner, and cuts them by age", async (context) => {
    const { store } = given(context);
    const seqs: number[] = [];
    for (const [index, ownerId] of ["ann", "bob", "ann"].entries())
      seqs.push(await store.events.append({ at: T0 + index, ownerId, kind: "sandbox-create", subjectId: `sb${index}`, data: { index } }));
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
    const ann = await store.events.after({ ownerId: "ann", seq: 0 });
    expect(ann.map(({ subjectId, data }) => [subjectId, data])).toEqual([
      ["sb0", { index: 0 }],
      ["sb2", { index: 2 }],
    ]);
    expect(await store.events.after({ seq: seqs[1] ?? 0 })).toHaveLength(1);
    expect(await store.events.after({ seq: 0, subjectId: "sb1" })).toHaveLength(1);
    expect(await store.events.cut(T0 + 2)).toBe(2);
    const line = { at: T0, ownerId: "ann", tokenId: "tok1", action: "sandbox.destroy", subjectId: "sb1", outcome: "ok", details: { n: 1 } };
    await store.audit.append(line);
    expect(await store.audit.after({ ownerId: "ann", subjectId: "sb1", seq: 0 })).toMatchObject([line]);
    expect(await store.audit.after({ ownerId: "bob", seq: 0 })).toEqual([]);
    expect(await store.audit.cut(T0 + 1)).toBe(1);
  });

  verifies("store/all-or-nothing", "a transaction that fails leaves nothing", async (context) => {
    const { store } = given(context);
    const failing = store.transaction(async ({ sandboxes, events, idempotency }) => {
      await idempotency.claim({ ownerId: "ann", key: "k", bodyHash: "a", resultId: "sb1", nodeId: "n1", now: T0 });
      await sandboxes.add(record("sb1", { metadata: { a: "b" } }));
      await events.append({ at: T0, ownerId: "ann", kind: "sandbox-create", subjectId: "sb1", data: {} });
      throw new Error("cut off");
    });
    await expect(failing).rejects.toThrow("cut off");
    expect(await store.sandboxes.get("sb1")).toBeUndefined();
    expect(await store.events.after({ seq: 0 })).toEqual([]);
    expect(
      await store.idempotency.claim({ ownerId: "ann", key: "k", bodyHash: "b", resultId: "sb2", nodeId: "n1", now: T0 }),
    ).toMatchObject({
      won: true,
    });
  });
});

describe("PostgreSQL alone", () => {
  const needed = (context: TestContext): Postgres => server ?? context.skip(postgresMissing() ?? "PostgreSQL did not start");

  verifies(
    "store/pool-bounded",
    "who waits too long for a connection is told that it is overloaded, and the next one is served",
    async (context) => {
      const url = await needed(context).fresh();
      await using store = await openStore({ kind: "postgres", url, pool: { min: 0, max: 2, acquireTimeoutMs: 200 } });
      const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
      const holders = [1, 2].map(() =>
        store.transaction(async ({ tokens }) => {
          await tokens.any(); // the connection is taken by now
          await held;
        }),
      );
      await expect(Promise.all(Array.from({ length: 5 }, () => store.ping()))).rejects.toMatchObject({ code: "overloaded" });
      letGo();
      await Promise.all(holders);
      await store.ping();
    },
  );

  verifies(
    "store/database-restart",
    "while the database is away calls are refused by code, and they work again when it is back",
    async (context) => {
      needed(context);
      await using own = await Postgres.start();
      await using store = await openStore({ kind: "postgres", url: own.url });
      await store.sandboxes.add(record("sb1"));
      // One that waits inside the database when it goes.
      const cut = store.transaction(async ({ tokens }) => {
        await tokens.any();
        await own.end();
        await tokens.any();
      });
      await expect(cut).rejects.toMatchObject({ code: "store_unavailable" });
      for (let i = 0; i < 5; i += 1) await expect(store.ping()).rejects.toMatchObject({ code: "store_unavailable" });
      await own.begin();
      expect(await store.sandboxes.get("sb1")).toMatchObject({ state: "running" });
    },
  );
});

describe("SQLite alone", () => {
  it("is in WAL mode with the cache and the safety that were asked for", async () => {
    const file = join(dir, "options.db");
    await (await openStore({ kind: "sqlite", file }))[Symbol.asyncDispose]();
    const db = new Kysely<object>({ dialect: openSqlite({ file, synchronous: "normal", cacheKiB: 512 }).dialect });
    const pragma = async (name: string): Promise<unknown> =>
      Object.values((await sql<Record<string, unknown>>`${sql.raw(`pragma ${name}`)}`.execute(db)).rows[0] ?? {})[0];
    expect(await pragma("journal_mode")).toBe("wal");
    expect(await pragma("synchronous")).toBe(1);
    expect(await pragma("cache_size")).toBe(-512);
    await db.destroy();
  });

  it("tells a file that is no database, or cannot be opened, by code", async () => {
    await expect(openStore({ kind: "sqlite", file: "/proc/version" })).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(openStore({ kind: "sqlite", file: join(dir, "none", "x.db") })).rejects.toMatchObject({ code: "store_unavailable" });
  });
});
