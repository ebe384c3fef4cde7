import { afterAll, beforeAll, beforeEach, expect, onTestFinished } from "vitest";
import { type NativeLab, openNativeLab, start } from "../../../test/fixtures/native-lab.ts";
import { verifies } from "../../../test/verifies.ts";
import { containerUsage } from "./container-usage.ts";

const MIB = 1024 ** 2;
const ROOT = process.geteuid?.() === 0;

let lab: NativeLab;

beforeAll(async () => {
  if (ROOT) lab = await openNativeLab({ allowWeaken: true });
});
afterAll(async () => {
  if (ROOT) await lab.dispose();
});
beforeEach((context) => {
  if (!ROOT) context.skip("this lab is root's: only there a sandbox can be made without its cgroups");
});

verifies("runtime/usage-without-cgroup", "without cgroups its processes in /proc are counted, and that is said", async () => {
  const container = await lab.make({ weaken: [5] });
  onTestFinished(() => container.destroy());
  const idle = await container.usage();
  expect(idle).toMatchObject({ cpu: { by: "proc" }, memory: { by: "proc", peakBytes: null }, pids: { by: "proc", count: 0 } });
  expect(idle.io?.by).toBe("proc");
  // The shell that spins has ended and was waited for; a chain of three stays.
  const line = "(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done); sh -c 'sh -c \"echo ready; read line\"; exit 3'; exit 4";
  const running = start(container, line, { stdin: true });
  await running.spoke;
  const busy = await container.usage();
  expect(busy.pids).toEqual({ by: "proc", count: 3 });
  expect(busy.cpu?.usedMs).toBeGreaterThan((idle.cpu?.usedMs ?? 0) + 20);
  expect(busy.memory?.bytes).toBeGreaterThan(idle.memory?.bytes ?? 0);
  expect(busy.memory?.bytes).toBeLessThan(64 * MIB);
  await running.process.write(Buffer.from("\n"));
  expect((await running.ended).exit.code).toBe(4);
  const after = await container.usage();
  expect(after.pids?.count).toBe(0);
  expect(after.cpu?.usedMs).toBeGreaterThanOrEqual(busy.cpu?.usedMs ?? Infinity);
});

verifies("runtime/usage-not-counted", "what neither a cgroup nor /proc tells is null, never a zero", async () => {
  const nothing = { cpu: null, memory: null, pids: null, io: null };
  expect(await containerUsage(new Map([["pid", 2 ** 22 + 1]]), 1)).toEqual(nothing);
  expect(await containerUsage(new Map(), 1)).toEqual(nothing);
  const all = { "cpu-us": 1_500, "memory-bytes": 7, "memory-peak": 9, pids: 3, "io-read": 4, "io-written": 5, "throttled-us": 2_000 };
  expect(await containerUsage(new Map(Object.entries(all)), 2)).toEqual({
    cpu: { usedMs: 1.5, throttledMs: 2, by: "cgroup" },
    memory: { bytes: 7, peakBytes: 9, by: "cgroup" },
    pids: { count: 1, by: "cgroup" },
    io: { readBytes: 4, writtenBytes: 5, by: "cgroup" },
  });
});
