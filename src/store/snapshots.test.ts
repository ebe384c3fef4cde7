// Snapshots in both databases: who sees which, what they stand on, removal. Real SQLite in a file, real PostgreSQL.

import { describe, expect } from "vitest";
import { DATABASES, databases, sandboxRow, T0 } from "../../test/fixtures/databases.ts";
import { verifies } from "../../test/verifies.ts";
import type { SnapshotRecord } from "./snapshots.ts";
import type { Store } from "./store.ts";

const open = databases();

function snapshot(id: string, more: Partial<SnapshotRecord> = {}): SnapshotRecord {
  const fixed = { ownerId: "ann", nodeId: "node1", sandboxId: "sb0", name: "built", metadata: { a: "1" }, request: { delta: "keep" } };
  return { id, ...fixed, codebase: null, templateId: null, bytes: 10, createdAt: T0, ...more };
}

async function filled(store: Store, record: SnapshotRecord): Promise<void> {
  await store.snapshots.add(record);
  if (record.bytes !== null) await store.snapshots.complete(record.id, record.bytes);
}

describe.each(DATABASES)("snapshots in %s", (kind) => {
  verifies(
    "store/snapshot-whole",
    "a snapshot counts from its beginning, is told when it is whole, and goes with a server that died before",
    async (context) => {
      await using store = await open(kind, context);
      await filled(store, snapshot("snap1", { codebase: { id: "cb1", version: 2 } }));
      for (const nodeId of ["node1", "node2"]) await filled(store, snapshot(`half${nodeId}`, { bytes: null, nodeId }));
      expect(await store.snapshots.get("snap1", "ann")).toEqual(snapshot("snap1", { codebase: { id: "cb1", version: 2 } }));
      expect([await store.snapshots.get("snap1", "bob"), await store.snapshots.get("halfnode1")]).toEqual([undefined, undefined]);
      expect((await store.snapshots.list({})).items.map(({ id }) => id)).toEqual(["snap1"]);
      expect(await store.snapshots.usage("ann")).toEqual({ count: 3, bytes: 10 });
      await store.snapshots.forgetUntaken("node1");
      expect([await store.snapshots.usage("ann"), await store.snapshots.usage("bob")]).toEqual([
        { count: 2, bytes: 10 },
        { count: 0, bytes: 0 },
      ]);
    },
  );

  verifies(
    "store/snapshot-in-use",
    "a snapshot that a living sandbox stands on is not removed, nor the codebase and the template that one stands on",
    async (context) => {
      await using store = await open(kind, context);
      const version = { root: "r", bytes: 1, files: 1, entries: 1, source: "tar" };
      await store.codebases.add({ id: "cb1", ownerId: "ann", nodeId: "node1", name: "app", labels: {}, createdAt: T0 }, version);
      for (const expected of [1, 2]) await store.codebases.addVersion({ id: "cb1", expected, version, now: T0 });
      const common = {
        ownerId: "ann",
        nodeId: "node1",
        name: "t",
        shared: false,
        source: "empty",
        defaults: {},
        reason: null,
        createdAt: T0,
      };
      await store.templates.add({ id: "tpl1", ...common, state: "empty", tree: null });
      for (const id of ["snap1", "snap2"])
        await filled(store, snapshot(id, { codebase: { id: "cb1", version: 1 }, templateId: id === "snap2" ? "tpl1" : null }));
      const use = (sandboxId: string, snapshotId: string) => store.transaction(({ snapshots }) => snapshots.use({ sandboxId, snapshotId }));
      const remove = (id: string) => store.transaction(({ snapshots }) => snapshots.remove(id));
      await store.sandboxes.add(sandboxRow("sb1"));
      expect([await use("sb1", "snap1"), await remove("snap1"), await use("sb1", "snap2")]).toEqual([true, 1, true]);
      expect([await remove("snap1"), await remove("snap1"), await remove("snap2"), await use("sb1", "snap1")]).toEqual([0, 0, 1, false]);
      const removeCodebase = () => store.transaction(({ codebases }) => codebases.remove("cb1"));
      expect([await store.codebases.prune("cb1", 1, []), await removeCodebase()]).toEqual([1, 1]); // version 2
      const removeTemplate = () => store.transaction(({ templates }) => templates.remove("tpl1"));
      expect(await removeTemplate()).toBe(1);
      await store.sandboxes.change({ id: "sb1", from: ["running"], to: "destroyed", now: T0 });
      expect([await remove("snap2"), await removeTemplate(), await removeCodebase(), await store.codebases.get("cb1")]).toEqual([
        0,
        0,
        0,
        undefined,
      ]);
    },
  );

  verifies("store/snapshot-pages", "snapshots are listed newest first, page by page, each once", async (context) => {
    await using store = await open(kind, context);
    for (let i = 0; i < 5; i += 1)
      await filled(store, snapshot(`snap${i}`, { createdAt: T0 + Math.floor(i / 2), sandboxId: `sb${i % 2}` }));
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.snapshots.list({ ownerId: "ann", limit: 2, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.next;
    } while (cursor !== undefined);
    expect(seen).toEqual(["snap4", "snap3", "snap2", "snap1", "snap0"]);
    expect((await store.snapshots.list({ sandboxId: "sb1", name: "built" })).items.map(({ id }) => id)).toEqual(["snap3", "snap1"]);
    await expect(store.snapshots.list({ cursor: "no" })).rejects.toMatchObject({ code: "request_invalid" });
  });
});
