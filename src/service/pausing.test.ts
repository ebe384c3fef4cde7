// Which paused sandboxes keep their processes: bounds of number, time and memory, and processes that died while they stood still.

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { startServiceHere } from "../../test/fixtures/service-here.ts";
import { verifies } from "../../test/verifies.ts";
import type { Corral } from "../api/corral.ts";
import type { Client, SandboxHandle } from "../api/client.ts";
import type { FrozenBounds } from "./parts.ts";

const SOON = { interval: 20 };

async function open(frozen: FrozenBounds): Promise<{ readonly client: Client; readonly corral: Corral }> {
  const dir = mkdtempSync(join(tmpdir(), "corral-frozen-"));
  const server = await startServiceHere(dir, { frozen });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    removeTree(dir);
  });
  return server;
}

const states = (sandboxes: readonly SandboxHandle[]): Promise<unknown[]> =>
  Promise.all(sandboxes.map(async (sandbox) => (await sandbox.info()).memory));

verifies(
  "pause/bounds",
  "paused sandboxes keep their processes within bounds of number, time and memory, the latest the longest",
  async () => {
    const { client } = await open({ most: 1, longestMs: 1_500, leastFreeShare: 0 });
    const made = [await client.create({}), await client.create({}), await client.create({})];
    for (const sandbox of made) await sandbox.pause();
    await expect.poll(() => states(made), SOON).toEqual([false, false, true]);
    await expect.poll(() => states(made), SOON).toEqual([false, false, false]);
    for (const sandbox of made) expect((await sandbox.exec({ command: "echo again" })).exitCode).toBe(0);
    const pressed = await open({ most: 9, longestMs: 60_000, leastFreeShare: 2 });
    const sandbox = await pressed.client.create({});
    await sandbox.pause();
    await expect.poll(() => states([sandbox]), SOON).toEqual([false]);
  },
);

verifies("pause/bounds", "one whose processes died while it stood still is told as paused without them, and resumes", async () => {
  const { client, corral } = await open({ most: 9, longestMs: 60_000, leastFreeShare: 0 });
  const sandbox = await client.create({});
  await sandbox.exec({ command: "echo kept > file" });
  const census = await corral.census();
  const init = census.find(({ kind, sandboxId, name }) => kind === "process" && sandboxId === sandbox.id && name.includes("init"));
  await sandbox.pause();
  process.kill(Number(init?.name.split(" ")[0]), "SIGKILL");
  await expect.poll(() => states([sandbox]), SOON).toEqual([false]);
  expect(Buffer.from((await sandbox.exec({ command: "cat file" })).stdout).toString()).toBe("kept\n");
});
