import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { directTool } from "../../test/fixtures/direct-tool.ts";
import { systemClock } from "../base/clock.ts";
import { type QuotaHit, QuotaWatcher } from "./watcher.ts";

const ID = `sb${"w".repeat(20)}`;
const MIB = 1024 * 1024;
let dir = "";
let watcher: QuotaWatcher;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "corral-watch-"));
  watcher = new QuotaWatcher(dir, systemClock);
});
afterEach(() => {
  watcher.remove(ID);
  rmSync(dir, { recursive: true, force: true });
});

function watched(limits: { diskBytes: number; inodes: number }): Promise<QuotaHit> {
  const upper = join(dir, "upper");
  mkdirSync(upper, { recursive: true });
  return new Promise((onRunaway) => watcher.add({ id: ID, dir: upper, tool: directTool(), onRunaway, ...limits }));
}

/** A command begins; the promise tells the limit for which it is to be killed. */
function command(): { hit: Promise<QuotaHit>; end: () => void } {
  let end: () => void = () => undefined;
  const hit = new Promise<QuotaHit>((resolve) => {
    end = watcher.guard(ID, resolve);
  });
  return { hit, end };
}

it("a command that writes past the disk limit of the delta is told disk", async () => {
  void watched({ diskBytes: MIB, inodes: 1000 });
  const { hit } = command();
  writeFileSync(join(dir, "upper", "big"), Buffer.alloc(3 * MIB, 1));
  expect(await hit).toBe("disk");
});

it("a command that makes too many entries is told inodes", async () => {
  void watched({ diskBytes: 100 * MIB, inodes: 50 });
  const { hit } = command();
  for (let i = 0; i < 100; i++) writeFileSync(join(dir, "upper", `f${i}`), "");
  expect(await hit).toBe("inodes");
});

it("a delta above its limit leaves the next command alone until it grows", async () => {
  void watched({ diskBytes: MIB, inodes: 1000 });
  const first = command();
  writeFileSync(join(dir, "upper", "big"), Buffer.alloc(3 * MIB, 1));
  await first.hit;
  first.end();
  const second = command();
  const told: QuotaHit[] = [];
  void second.hit.then((limit) => told.push(limit));
  rmSync(join(dir, "upper", "big"));
  writeFileSync(join(dir, "upper", "still-large"), Buffer.alloc(2 * MIB, 1));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(told).toEqual([]);
  writeFileSync(join(dir, "upper", "larger"), Buffer.alloc(4 * MIB, 1));
  expect(await second.hit).toBe("disk");
});

it("a delta that a command left above its limit ends nothing while it stands still, and is told until there is room", async () => {
  const told: QuotaHit[] = [];
  void watched({ diskBytes: MIB, inodes: 1000 }).then((limit) => told.push(limit));
  const first = command();
  for (let i = 0; i < 4; i++) writeFileSync(join(dir, "upper", `big${i}`), Buffer.alloc(MIB, 1));
  expect(await first.hit).toBe("disk");
  first.end();
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  expect([told, watcher.over(ID)]).toEqual([[], "disk"]);
  for (let i = 0; i < 4; i++) rmSync(join(dir, "upper", `big${i}`));
  while (watcher.over(ID) !== undefined) await new Promise((resolve) => setTimeout(resolve, 50));
  writeFileSync(join(dir, "upper", "daemon"), Buffer.alloc(3 * MIB, 1));
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(told).toEqual(["disk"]);
}, 60_000);

it("what grows past a limit while no command runs is told to the sandbox", async () => {
  const runaway = watched({ diskBytes: MIB, inodes: 1000 });
  writeFileSync(join(dir, "upper", "big"), Buffer.alloc(3 * MIB, 1));
  expect(await runaway).toBe("disk");
});
