// Snapshots over a restart: what a killed server left half done, and rows and disk that disagree.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { startServiceHere } from "../../test/fixtures/service-here.ts";
import { verifies } from "../../test/verifies.ts";
import { ID_BODY_LENGTH } from "../api/ids.ts";
import { systemClock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";

function newId(): string {
  return `snap${randomText(ID_BODY_LENGTH)}`;
}

verifies("snapshot/rows-and-disk", "after a start the rows and the disk name the same snapshots", async () => {
  const dir = mkdtempSync(join(tmpdir(), "corral-agree-"));
  onTestFinished(() => removeTree(dir));
  const snapshots = join(dir, "data", "snapshots");
  const layers = join(dir, "data", "deltas", "layers");
  const kept: string[] = [];
  const key = { idempotencyKey: "once" };
  {
    await using server = await startServiceHere(dir);
    const sandbox = await server.client.create({});
    for (let i = 0; i < 3; i++) {
      await sandbox.exec({ command: `echo ${i} > a` });
      kept.push((await sandbox.snapshot()).id);
    }
    const [, lost = "", unnamed = ""] = kept;
    // One whose files went, one whose row did, and one that was being taken.
    rmSync(join(snapshots, lost), { recursive: true });
    await server.store.transaction(({ snapshots: rows }) => rows.remove(unnamed));
    const half = newId();
    const row = {
      id: half,
      ownerId: "ann",
      nodeId: "node",
      sandboxId: sandbox.id,
      name: "",
      metadata: {},
      request: {},
      codebase: null,
      templateId: null,
    };
    await server.store.snapshots.add({ ...row, createdAt: 1 });
    const now = systemClock.wallMs();
    await server.store.idempotency.claim({ ownerId: "ann", key: key.idempotencyKey, bodyHash: "x", resultId: half, nodeId: "node", now });
    mkdirSync(join(snapshots, half));
    writeFileSync(join(snapshots, `${half}.maker`), JSON.stringify({ pid: 1, startTicks: "0", bootId: "none" }));
    expect(readdirSync(layers)).toHaveLength(3);
  }
  await using server = await startServiceHere(dir);
  const [first = ""] = kept;
  expect((await server.client.snapshots.list()).items.map(({ id }) => id)).toEqual([first]);
  expect([readdirSync(snapshots), readdirSync(layers).length]).toEqual([[first], 1]);
  expect(await server.store.snapshots.usage("ann")).toMatchObject({ count: 1 });
  const made = await server.client.create({ snapshot: first });
  expect(Buffer.from((await made.exec({ command: "cat a" })).stdout).toString()).toBe("0\n");
  // The key of the one that never became whole is free again.
  await made.snapshot(key);
});
