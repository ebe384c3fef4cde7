// Transactions that come at once, in both databases: each whole or not there. Real SQLite in a file, real PostgreSQL.

import { describe, expect } from "vitest";
import { DATABASES, databases, sandboxRow } from "../../test/fixtures/databases.ts";
import { verifies } from "../../test/verifies.ts";

const open = databases();

describe.each(DATABASES)("transactions in %s", (kind) => {
  verifies("store/grouped", "of transactions that come at once, one that fails takes back what is its own alone", async (context) => {
    await using store = await open(kind, context);
    const write = (i: number) =>
      store.transaction(async ({ sandboxes }) => {
        await sandboxes.add(sandboxRow(`sb${i}`));
        if (i % 3 === 1) throw new Error(`no ${i}`);
        return i;
      });
    const ends = await Promise.allSettled(Array.from({ length: 9 }, (_, i) => write(i)));
    const told = ends.map((end) => (end.status === "fulfilled" ? end.value : (end.reason as Error).message));
    expect(told).toEqual([0, "no 1", 2, 3, "no 4", 5, 6, "no 7", 8]);
    const { items } = await store.sandboxes.list({ ownerId: "ann" });
    expect(items.map(({ id }) => id).sort()).toEqual(["sb0", "sb2", "sb3", "sb5", "sb6", "sb8"]);
  });
});
