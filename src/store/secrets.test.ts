// Secrets in both databases: names, owners, pages. Real SQLite in a file, real PostgreSQL.

import { describe, expect } from "vitest";
import { DATABASES, databases, T0 } from "../../test/fixtures/databases.ts";
import { verifies } from "../../test/verifies.ts";
import type { SecretRecord } from "./secrets.ts";

const open = databases();

function secret(id: string, more: Partial<SecretRecord> = {}): SecretRecord {
  return { id, ownerId: "ann", nodeId: "node1", name: id.toUpperCase(), sealed: "x", createdAt: T0, updatedAt: T0, ...more };
}

describe.each(DATABASES)("secrets in %s", (kind) => {
  verifies(
    "store/secrets",
    "a secret's name stands once per owner and node; secrets are listed newest first, page by page",
    async (context) => {
      await using store = await open(kind, context);
      const { secrets } = store;
      const ann = { nodeId: "node1", ownerId: "ann" };
      expect(await secrets.add(secret("sec1"))).toBe(true);
      expect(await secrets.add(secret("sec2", { name: "SEC1" }))).toBe(false);
      for (const more of [{ ownerId: "bob" }, { nodeId: "node2" }])
        expect(await secrets.add(secret(`of${Object.keys(more).join("").toLowerCase()}`, { name: "SEC1", ...more }))).toBe(true);
      for (const [index, id] of ["sec3", "sec4"].entries()) await secrets.add(secret(id, { createdAt: T0 + index + 1 }));
      expect(await secrets.count(ann)).toBe(3);
      const first = await secrets.list({ ...ann, limit: 2 });
      expect(first.items.map(({ id }) => id)).toEqual(["sec4", "sec3"]);
      expect((await secrets.list({ ...ann, limit: 2, cursor: first.next ?? "" })).items.map(({ id }) => id)).toEqual(["sec1"]);
      expect((await secrets.named(ann, ["SEC1", "SEC9"])).map(({ id }) => id)).toEqual(["sec1"]);
      expect([await secrets.get("sec1", "bob"), await secrets.reseal("sec1", "y", T0 + 9)]).toEqual([undefined, true]);
      expect(await secrets.get("sec1", "ann")).toEqual(secret("sec1", { sealed: "y", updatedAt: T0 + 9 }));
      expect([await secrets.remove("sec1"), await secrets.remove("sec1"), await secrets.reseal("sec1", "z", T0)]).toEqual([
        true,
        false,
        false,
      ]);
    },
  );
});
