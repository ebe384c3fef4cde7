// Codebases in both databases: versions, uses, removal. Real SQLite in a file, real PostgreSQL.

import { describe, expect } from "vitest";
import { DATABASES, databases, sandboxRow, T0 } from "../../test/fixtures/databases.ts";
import { verifies } from "../../test/verifies.ts";
import type { NewVersion } from "./codebases.ts";
import type { Store } from "./store.ts";

const open = databases();

function version(root: string): NewVersion {
  return { root, bytes: 10, files: 1, entries: 2, source: "tar" };
}

async function filled(store: Store, id: string, at = T0): Promise<void> {
  await store.codebases.add({ id, ownerId: "ann", nodeId: "node1", name: "app", labels: { a: "1" }, createdAt: at }, version(`${id}-1`));
}

describe.each(DATABASES)("codebases in %s", (kind) => {
  verifies(
    "store/codebase-versions",
    "versions count up by one, and of two writers over one version one is told to look again",
    async (context) => {
      await using store = await open(kind, context);
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
      await using store = await open(kind, context);
      await filled(store, "cb1");
      const use = (sandboxId: string) =>
        store.transaction(async ({ codebases, sandboxes }) => {
          await sandboxes.add(sandboxRow(sandboxId));
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
    await using store = await open(kind, context);
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
