// Rows of the client suite: what a sandbox takes.

import { expect } from "vitest";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

const MIB = 1024 ** 2;
/** Memory, a delta, CPU time and a process that stays. */
const WORK =
  "sleep 60 & head -c 33554432 /dev/zero > /tmp/fill; head -c 2097152 /dev/zero > /workspace/made; i=0; \
while [ $i -lt 30000 ]; do i=$((i+1)); done; echo ready; wait";

export function metricRows(lab: () => ClientLab): void {
  verifies("client/metrics", "what a sandbox takes is counted, with its limits, and asking resumes nothing", async () => {
    const sandbox = await lab().make({ limits: { memoryBytes: 256 * MIB, pids: 64 } });
    const { id } = await sandbox.processes.start({ command: WORK });
    for await (const piece of sandbox.processes.output(id)) if (piece.kind === "stdout") break;
    const seen = await sandbox.metrics();
    expect(seen).toMatchObject({ id: sandbox.id, state: "running", limits: { memoryBytes: 256 * MIB, cpus: null, pids: 64 } });
    expect(Math.abs(Date.parse(seen.at) - Date.now())).toBeLessThan(60_000);
    expect(seen.cpu?.usedMs).toBeGreaterThan(5);
    // Where no cgroup counts, folders in memory are nobody's.
    if (seen.memory?.by === "cgroup") expect(seen.memory.bytes).toBeGreaterThan(32 * MIB);
    expect(seen.memory?.bytes).toBeGreaterThan(0);
    expect(seen.memory?.bytes).toBeLessThan(256 * MIB);
    if (seen.memory?.peakBytes !== null) expect(seen.memory?.peakBytes).toBeGreaterThan(32 * MIB);
    expect(seen.pids?.count).toBeGreaterThanOrEqual(2);
    expect(seen.pids?.count).toBeLessThan(10);
    // Of other ids' processes the kernel tells an ordinary user no traffic.
    if (seen.io !== null) expect(seen.io.readBytes).toBeGreaterThanOrEqual(0);
    await expect.poll(async () => (await sandbox.metrics()).disk?.bytes ?? 0).toBeGreaterThanOrEqual(2 * MIB);
    const many = await Promise.all(Array.from({ length: 20 }, () => sandbox.metrics()));
    expect(new Set(many.map(({ at }) => at)).size).toBeLessThan(20);
    await sandbox.pause();
    const paused = await sandbox.metrics();
    expect([paused.state, paused.pids?.count, (await sandbox.info()).state]).toEqual(["paused", seen.pids?.count, "paused"]);
    await sandbox.pause({ memory: false });
    const { at: _, ...resting } = await sandbox.metrics();
    const nothing = { cpu: null, memory: null, pids: null, io: null, disk: null, limits: null };
    expect(resting).toEqual({ id: sandbox.id, state: "paused", ...nothing });
    expect((await sandbox.info()).state).toBe("paused");
    await sandbox.destroy();
    expect(await codeOf(sandbox.metrics())).toBe("sandbox_not_found");
  });

  verifies("client/metrics-owners", "only who reaches a sandbox is told what it takes", async () => {
    const sandbox = await lab().make();
    const own = await lab().ofSandbox("ann", sandbox.id);
    expect((await own.sandbox(sandbox.id).metrics()).id).toBe(sandbox.id);
    const other = await lab().make({}, await lab().of("bob"));
    expect(await codeOf(own.sandbox(other.id).metrics())).toBe("sandbox_not_found");
    expect(await codeOf((await lab().of("bob")).sandbox(sandbox.id).metrics())).toBe("sandbox_not_found");
    expect((await lab().admin.sandbox(sandbox.id).metrics()).id).toBe(sandbox.id);
    expect(await codeOf(sandbox.metrics({ signal: AbortSignal.abort() }))).toBe("canceled");
  });
}
