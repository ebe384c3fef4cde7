// That no client is told of a change which a power cut could still take back.

import { expect } from "vitest";
import { startServerHere } from "../../test/fixtures/server-here.ts";
import { verifies } from "../../test/verifies.ts";

verifies("server/settled", "an answer that tells of a change comes after the change is on the disk", async () => {
  const disk = Promise.withResolvers<void>();
  let asked = 0;
  const settled = async (): Promise<void> => {
    asked += 1;
    await disk.promise;
  };
  await using server = await startServerHere({}, (store) => ({ ...store, settled }));
  const told: string[] = [];
  const issued = server.admin.tokens.issue({ ownerId: "admin", scope: "user", name: "late" }).then(() => told.push("issued"));
  await expect.poll(() => asked).toBe(1);
  // It is done, and others are told so: only this one is not told that it stays.
  expect((await server.admin.tokens.list()).items.map(({ name }) => name)).toContain("late");
  expect([told, asked]).toEqual([[], 1]);
  disk.resolve();
  await issued;
});
