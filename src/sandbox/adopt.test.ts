// A server that is killed and the next one over its data directory, without HTTP: what is gone on with, what is cleared, who may not.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { Sandbox } from "../api/sandbox.ts";
import { type HostCorral, openLocalCorral } from "./corral.ts";
import { openDataDir } from "./data-dir.ts";

const SCRIPT = join(import.meta.dirname, "../../test/fixtures/corral-holder.ts");
const UID = process.getuid?.() ?? 0;
const SOON = { timeout: 15_000, interval: 20 };

const place = { dir: "", code: "", data: "" };
const open: HostCorral[] = [];

beforeEach(() => {
  place.dir = mkdtempSync(join(tmpdir(), "corral-ad-"));
  place.code = join(place.dir, "code");
  place.data = join(place.dir, "data");
  mkdirSync(place.code);
  writeFileSync(join(place.code, "a.txt"), "one\n");
});
afterEach(async () => {
  for (const corral of open.splice(0)) await corral[Symbol.asyncDispose]();
  removeTree(place.dir);
});

async function openHere(lasting: boolean): Promise<HostCorral> {
  const corral = await openLocalCorral({ dataDir: place.data, guestFile: guestProgram(), env: process.env, uid: UID, lasting });
  open.push(corral);
  return corral;
}

/** Kills a server that made `count` sandboxes; `before` is called while it lives. */
async function killed(count: number): Promise<{ readonly ids: readonly string[]; readonly adopted: readonly string[] }> {
  guestProgram();
  const child = spawn(process.execPath, [SCRIPT, place.data, place.code, String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  if (child.stdout === null) throw new Error("the holder has no stdout");
  const exit = once(child, "exit");
  const line = (await Promise.race([once(createInterface(child.stdout), "line"), exit.then(() => [""])])) as [string];
  process.kill(-(child.pid ?? 0), "SIGKILL");
  await exit;
  return JSON.parse(line[0]) as { ids: string[]; adopted: string[] };
}

async function said(sandbox: Sandbox | undefined, command: string): Promise<string> {
  const result = await sandbox?.exec({ command });
  return `${Buffer.from(result?.stdout ?? []).toString()}${Buffer.from(result?.stderr ?? []).toString()}`;
}

/** What of this data directory is left, the kept deltas aside. */
async function leftovers(corral: HostCorral, ids: readonly string[]): Promise<readonly string[]> {
  const entries = await corral.census();
  const ours = entries.filter(({ kind, sandboxId }) => kind !== "delta" && ids.includes(sandboxId ?? ""));
  return ours.map(({ kind, name }) => `${kind} ${name}`);
}

function masksInUse(): readonly string[] {
  const masks = join(place.data, "masks", "masks");
  return readdirSync(masks).flatMap((name) => readdirSync(join(masks, name, "uses")));
}

verifies(
  "sandbox/adoption",
  "a server goes on with the sandboxes of one that was killed: files, processes, environment, limits, changes, and an end without remains",
  async () => {
    const { ids } = await killed(3);
    const corral = await openHere(true);
    expect(corral.adopted.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect(corral.reaped).toEqual({ objects: 0, deltas: [], failures: [] });
    const sandboxes = ids.map((id) => corral.adopted.find((one) => one.id === id));
    for (const [n, sandbox] of sandboxes.entries()) {
      expect(await said(sandbox, "cat a.txt made-*; echo $WHO; cat /proc/[0-9]*/comm | grep -c sleep")).toBe(`one\n${n}\nn${n}\n1\n`);
      // Of one that was started ahead the environment is not in its PID 1.
      const stage = n === 0 ? "bindMs" : "containMs";
      expect(sandbox?.info()).toMatchObject({ state: "running", engine: "kernel", timings: { [stage]: expect.any(Number) as unknown } });
    }
    const [first, second, third] = sandboxes;
    const full = await first?.exec({ command: "head -c 40000000 /dev/zero > big; sleep 20" });
    await first?.destroy(); // at once: what is above its limit with no command to be told ends by itself, and keeps its delta
    expect(full?.limitHit).toBe("disk");
    const { changes } = await corral.deltas.changes(second?.id ?? "");
    expect(changes.map(({ path, kind }) => [path, kind])).toEqual([["/made-1", "add"]]);
    // Those that were made at the same time share a hold, which goes with the last.
    await second?.destroy();
    expect(masksInUse().length).toBe(1);
    await third?.destroy();
    expect(masksInUse()).toEqual([]);
    expect(await leftovers(corral, ids)).toEqual([]);
    expect(readdirSync(join(place.data, "deltas"))).toEqual([]);
    const own = await corral.create({ codebaseDir: place.code, policy: { rules: [{ pattern: "**", permission: "read" }] } });
    expect(await said(own, "cat a.txt")).toBe("one\n");
  },
);

verifies("sandbox/adoption", "one server after another goes on with them, and the last one's graceful end leaves nothing", async () => {
  const { ids } = await killed(2);
  for (let n = 0; n < 2; n++) expect([...(await killed(0)).adopted].sort()).toEqual([...ids].sort());
  const corral = await openHere(true);
  expect(corral.adopted.length).toBe(2);
  await corral[Symbol.asyncDispose]();
  const after = await openHere(false);
  expect(await leftovers(after, ids)).toEqual([]);
  const { run } = openDataDir({ path: place.data, env: process.env, uid: UID });
  expect([readdirSync(run), readdirSync(join(place.data, "journal")), readdirSync(join(place.data, "deltas"))]).toEqual([[], [], []]);
});

verifies(
  "sandbox/adoption-whole",
  "a sandbox that was still being made is cleared; what was written in it is kept as that of a cut-off run",
  async () => {
    const { ids } = await killed(3);
    const [cut = "", torn = "", whole = ""] = ids;
    // In place, since the lock is on the file: the server died before the second line, and within it.
    for (const [id, more] of [
      [cut, 0],
      [torn, 40],
    ] as const) {
      const file = join(place.data, "journal", `${id}.json`);
      truncateSync(file, readFileSync(file, "utf8").indexOf("\n") + 1 + more);
    }
    const corral = await openHere(true);
    expect(corral.adopted.map(({ id }) => id)).toEqual([whole]);
    expect(corral.reaped.objects).toBe(2);
    expect(corral.reaped.deltas.map(({ sandboxId, cutOff }) => [sandboxId, cutOff]).sort()).toEqual(
      [
        [cut, true],
        [torn, true],
      ].sort(),
    );
    expect(await leftovers(corral, [cut, torn])).toEqual([]);
  },
);

verifies(
  "sandbox/adoption-others",
  "until the next server comes nobody else clears, sweeps or counts its sandboxes as leftovers",
  async () => {
    const { ids } = await killed(2);
    const other = await openHere(false);
    expect([other.adopted, other.reaped.objects]).toEqual([[], 0]);
    const entries = (await other.census()).filter(({ sandboxId, name }) => ids.includes(sandboxId ?? "") || name.startsWith(place.data));
    expect(new Set(entries.map(({ kind }) => kind))).toEqual(
      new Set(UID === 0 ? ["process", "cgroup", "socket", "journal", "delta"] : ["process", "socket", "journal", "delta"]),
    );
    expect(entries.filter(({ owned }) => !owned)).toEqual([]);
    await (await other.create({ codebaseDir: place.code, policy: { rules: [{ pattern: "**", permission: "write" }] } })).destroy();
    const corral = await openHere(true);
    expect(corral.adopted.length).toBe(2);
    expect(await said(corral.adopted[0], "cat a.txt")).toBe("one\n");
  },
);

verifies("sandbox/adoption-dead", "when the spawner died too, the next server clears what is left and keeps what was written", async () => {
  const { ids } = await killed(2);
  const { run } = openDataDir({ path: place.data, env: process.env, uid: UID });
  const socket = readdirSync(run).find((name) => name.endsWith(".spawner")) ?? "none";
  const spawner = execFileSync("pgrep", ["-f", `corral-guest spawner .*--listen ${join(run, socket)}`], { encoding: "utf8" }).trim();
  process.kill(Number(spawner), "SIGKILL");
  await expect.poll(() => existsSync(`/proc/${spawner}/exe`), SOON).toBe(false);
  const corral = await openHere(true);
  expect([corral.adopted, corral.reaped.objects]).toEqual([[], 2]);
  expect(corral.reaped.deltas.map(({ sandboxId }) => sandboxId).sort()).toEqual([...ids].sort());
  await expect.poll(() => leftovers(corral, ids), SOON).toEqual([]);
});
