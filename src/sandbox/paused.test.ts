// Sandboxes that are paused, over a codebase that moves on meanwhile, and beside other processes of the same data directory.

import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openCorral } from "../../test/fixtures/corral-here.ts";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { Corral } from "../api/corral.ts";
import { errorCode } from "../api/errors.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";

const SOON = { interval: 10 };

let dir = "";
let code = "";
let corral: Corral;

const open = (): Promise<Corral> => openCorral(dir);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "corral-paused-"));
  code = join(dir, "code");
  mkdirSync(code);
  corral = await open();
});
beforeEach(() => {
  for (const name of ["mine", "both"]) writeFileSync(join(code, name), "base\n");
});
afterAll(async () => {
  await corral[Symbol.asyncDispose]();
  removeTree(dir);
});

function create(more: Partial<CreateRequest> = {}): Promise<Sandbox> {
  return corral.create({ codebaseDir: code, policy: { rules: [{ pattern: "**", permission: "write" }] }, ...more });
}

async function said(sandbox: Sandbox, command: string): Promise<string> {
  return Buffer.from((await sandbox.exec({ command })).stdout).toString();
}

verifies(
  "sandbox/pause-codebase",
  "a sandbox that is made again sees the codebase of now, and commits against the one it began with",
  async () => {
    const sandbox = await create();
    await said(sandbox, "echo changed > mine; echo changed > both");
    await sandbox.pause(false);
    expect(sandbox.info()).toMatchObject({ state: "paused", memory: false });
    writeFileSync(join(code, "both"), "other\n");
    writeFileSync(join(code, "new"), "new\n");
    expect((await corral.deltas.changes(sandbox.id)).changes.map(({ path }) => path)).toEqual(["/both", "/mine"]);
    const again = await corral.paused.resume(sandbox.id);
    expect(await said(again, "cat new mine both")).toBe("new\nchanged\nchanged\n");
    await expect(corral.deltas.commit(again.id)).rejects.toMatchObject({ code: "commit_conflict" });
    const { committed } = await corral.deltas.commit(again.id, { partial: true });
    expect(committed.map(({ path }) => path)).toEqual(["/mine"]);
    expect([readFileSync(join(code, "mine"), "utf8"), readFileSync(join(code, "both"), "utf8")]).toEqual(["changed\n", "other\n"]);
    await again.destroy();
    expect(await corral.paused.list()).toEqual([]);
  },
);

verifies(
  "sandbox/pause-adopted-by-nobody",
  "another process of the data directory neither adopts nor discards what is paused",
  async () => {
    const [frozen, ended] = [await create(), await create()];
    for (const sandbox of [frozen, ended]) await said(sandbox, "echo changed > mine");
    await frozen.pause(true);
    await ended.pause(false);
    {
      await using other = await open();
      expect(other.reaped).toMatchObject({ objects: 0, deltas: [] });
      expect(await other.deltas.list()).toEqual([]);
      for (const { id } of [frozen, ended]) await expect(other.deltas.discard(id)).rejects.toMatchObject({ code: "sandbox_state" });
    }
    expect((await corral.census()).filter(({ owned }) => !owned)).toEqual([]);
    await frozen.resume();
    expect(await said(frozen, "cat mine")).toBe("changed\n");
    await frozen.destroy();
    expect(await corral.paused.list()).toEqual([ended.id]);
    await corral.paused.abandon(ended.id);
    expect((await corral.deltas.list()).map(({ sandboxId, cutOff }) => [sandboxId, cutOff])).toEqual([[ended.id, true]]);
    await corral.deltas.discard(ended.id);
  },
);

verifies("sandbox/pause-lost", "a frozen sandbox whose processes die is still paused, without them", async () => {
  const sandbox = await create();
  await said(sandbox, "echo kept > mine");
  const init = (await corral.census()).find(
    ({ kind, sandboxId, name }) => kind === "process" && sandboxId === sandbox.id && name.includes("init"),
  );
  await sandbox.pause(true);
  process.kill(Number(init?.name.split(" ")[0]), "SIGKILL");
  await expect.poll(() => sandbox.info(), SOON).toMatchObject({ state: "paused", memory: false });
  await expect(sandbox.resume()).rejects.toMatchObject({ code: "sandbox_state" });
  await sandbox.pause(false);
  const again = await corral.paused.resume(sandbox.id);
  expect(await said(again, "cat mine")).toBe("kept\n");
  await again.destroy();
});

it("refuses what a paused sandbox cannot do, and destroys it with its delta", async () => {
  const sandbox = await create();
  await said(sandbox, "echo changed > mine");
  await sandbox.pause(true);
  await expect(sandbox.exec({ command: "true" })).rejects.toMatchObject({ code: "sandbox_state" });
  await expect(corral.paused.resume(sandbox.id)).rejects.toMatchObject({ code: "sandbox_state" });
  await sandbox.pause(false);
  await expect(sandbox.pause(true)).rejects.toMatchObject({ code: "sandbox_state" });
  await corral.paused.destroy(sandbox.id);
  await corral.paused.destroy(sandbox.id);
  expect(errorCode(await corral.paused.resume(sandbox.id).catch((error: unknown) => error))).toBe("sandbox_not_found");
  await expect(corral.deltas.changes(sandbox.id)).rejects.toMatchObject({ code: "delta_not_found" });
});

it("keeps the delta of one that was to keep it, paused or not, when it is destroyed", async () => {
  for (const memory of [true, false]) {
    const sandbox = await create({ delta: "keep" });
    await said(sandbox, "echo changed > mine");
    await sandbox.pause(memory);
    await (memory ? sandbox.destroy() : corral.paused.destroy(sandbox.id));
    expect((await corral.deltas.list()).map(({ sandboxId, cutOff }) => [sandboxId, cutOff])).toEqual([[sandbox.id, false]]);
    await corral.deltas.discard(sandbox.id);
  }
});
