// Codebases in both databases: versions, uses, removal. Real SQLite in a file, real PostgreSQL.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, type TestContext } from "vitest";
import { Postgres, postgresMissing } from "../../test/fixtures/postgres.ts";
import { verifies } from "../../test/verifies.ts";
import type { NewVersion } from "./codebases.ts";
import type { SandboxRecord } from "./sandboxes.ts";
import { openStore, type Store } from "./store.ts";

const T0 = 1_800_000_000_000;
let server: Postgres | undefined;
let dir: string;
let files = 0;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-codebase-rows-");
  if (postgresMissing() === undefined) server = await Postgres.start();
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

function version(root: string): NewVersion {
  return { root, bytes: 10, files: 1, entries: 2, source: "tar" };
}

async function filled(store: Store, id: string, at = T0): Promise<void> {
  await store.codebases.add({ id, ownerId: "ann", nodeId: "node1", name: "app", labels: { a: "1" }, createdAt: at }, version(`${id}-1`));
}

function sandbox(id: string): SandboxRecord {
  const fixed = { ownerId: "ann", nodeId: "node1", state: "running", request: {}, info: {}, onTimeout: "kill", metadata: {} } as const;
  return { id, ...fixed, createdAt: T0, updatedAt: T0, endAt: null, memory: null };
}

describe.each(["sqlite", "postgres"] as const)("codebases in %s", (kind) => {
  async function opened(context: TestContext): Promise<Store> {
    if (kind === "sqlite") return await openStore({ kind, file: join(dir, `${++files}.db`) });
    return server === undefined
      ? context.skip(postgresMissing() ?? "PostgreSQL did not start")
      : await openStore({ kind, url: await server.fresh() });
  }

  verifies(
    "store/codebase-versions",
    "versions count up by one, and of two writers over one version one is told to look again",
    async (context) => {
      await using store = await opened(context);
      await filled(store, "cb1");
      const add = (root: string) =>
        store.transaction(({ codebases }) => codebases.addVersion({ id: "cb1", expected: 1, version: version(root), now: T0 + 1 }));
      const answers = [await add("second"), await add("third")];
      expect(answers).toEqual([2, undefined]);
      expect(await store.codebases.get("cb1", "ann")).toMatchObject({
        name: "app",
        labels: { a: "1" },
        updatedAt: T0 + 1,
        current: { number: 2, root: "second" },
      });
      expect(await store.codebases.get("cb1", "bob")).toBeUndefined();
      expect((await store.codebases.versions("cb1", { limit: 5 })).map(({ number }) => number)).toEqual([2, 1]);
      expect((await store.codebases.versions("cb1", { limit: 5, before: 2 })).map(({ root }) => root)).toEqual(["cb1-1"]);
      expect(await store.codebases.version("cb1", 3)).toBeUndefined();
      expect([...(await store.codebases.roots("node1", "ann"))].sort()).toEqual(["cb1-1", "second"]);
      expect(await store.codebases.roots("node2", "ann")).toEqual([]);
    },
  );

  verifies(
    "store/codebase-in-use",
    "a codebase that a living sandbox stands on is not removed, nor is that version forgotten",
    async (context) => {
      await using store = await opened(context);
      await filled(store, "cb1");
      const use = (sandboxId: string) =>
        store.transaction(async ({ codebases, sandboxes }) => {
          await sandboxes.add(sandbox(sandboxId));
          return await codebases.use({ sandboxId, codebaseId: "cb1", number: 1 });
        });
      const remove = () => store.transaction(({ codebases }) => codebases.remove("cb1"));
      expect(await use("sb1")).toBe(true);
      for (const expected of [1, 2, 3])
        await store.codebases.addVersion({ id: "cb1", expected, version: version(`v${expected + 1}`), now: T0 });
      expect(await store.codebases.prune("cb1", 2, [])).toBe(1); // 2; 1 is used, 3 and 4 are the newest
      expect((await store.codebases.versions("cb1", { limit: 9 })).map(({ number }) => number)).toEqual([4, 3, 1]);
      expect(await store.codebases.prune("cb1", 1, [3])).toBe(0);
      expect(await remove()).toBe(1);
      await store.sandboxes.change({ id: "sb1", from: ["running"], to: "destroyed", now: T0 });
      expect(await remove()).toBe(0);
      expect(await store.codebases.get("cb1")).toBeUndefined();
      expect(await store.codebases.versions("cb1", { limit: 9 })).toEqual([]);
      expect(await use("sb2")).toBe(false);
    },
  );

  verifies("store/codebase-pages", "codebases are listed newest first, page by page, each once", async (context) => {
    await using store = await opened(context);
    for (let i = 0; i < 5; i += 1) await filled(store, `cb${i}`, T0 + Math.floor(i / 2));
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.codebases.list({ ownerId: "ann", limit: 2, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.next;
    } while (cursor !== undefined);
    expect(seen).toEqual(["cb4", "cb3", "cb2", "cb1", "cb0"]);
    expect(await store.codebases.count("ann")).toBe(5);
    expect((await store.codebases.list({ ownerId: "bob" })).items).toEqual([]);
    expect(await store.codebases.owners("node1")).toEqual(["ann"]);
    await expect(store.codebases.list({ cursor: "x" })).rejects.toMatchObject({ code: "request_invalid" });
  });
});
