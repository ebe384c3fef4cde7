// The promise of `settled` against a disk of the test's: which sync covers which write.

import { expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { WalSync } from "./wal-sync.ts";

/** A disk whose syncs end when the test says so. */
function slowDisk(): { readonly sync: () => Promise<void>; readonly waiting: PromiseWithResolvers<void>[]; count: number } {
  const disk = {
    waiting: [] as PromiseWithResolvers<void>[],
    count: 0,
    sync: () => {
      disk.count += 1;
      const one = Promise.withResolvers<void>();
      disk.waiting.push(one);
      return one.promise;
    },
  };
  return disk;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

verifies(
  "store/settled",
  "who waits is told after a sync that began behind its write; one sync serves all that wrote before it",
  async () => {
    const disk = slowDisk();
    const log = new WalSync(disk.sync);
    await log.settled();
    expect(disk.count).toBe(0);

    log.wrote();
    const told: string[] = [];
    const first = log.settled().then(() => told.push("first"));
    log.wrote();
    const late = [log.settled(), log.settled()].map((wait) => wait.then(() => told.push("late")));
    expect(disk.count).toBe(1);
    disk.waiting.shift()?.resolve();
    await first;
    await turn();
    // The first sync had begun before the second write.
    expect([told, disk.count]).toEqual([["first"], 2]);
    disk.waiting.shift()?.resolve();
    await Promise.all(late);
    await log.settled();
    expect([told, disk.count]).toEqual([["first", "late", "late"], 2]);
  },
);

it("a sync that fails is told to everybody from then on", async () => {
  const disk = slowDisk();
  const log = new WalSync(disk.sync);
  log.wrote();
  const waits = [log.settled(), log.settled()].map((wait) => wait.catch(({ code }: { code: string }) => code));
  disk.waiting[0]?.reject(new Error("EIO"));
  expect(await Promise.all(waits)).toEqual(["store_unavailable", "store_unavailable"]);
  await expect(log.settled()).rejects.toThrow(/EIO/);
  expect(disk.count).toBe(1);
});
