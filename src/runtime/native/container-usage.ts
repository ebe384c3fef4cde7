// What one container takes: what its cgroup counts, as the spawner tells it, and for the rest what its processes show in /proc.
// Invariant: each figure says which of the two it is; what neither tells is `null`.

import type { ContainerUsage } from "../../api/metrics.ts";
import { type ProcessUsage, processUsage } from "./process-usage.ts";

const US_PER_MS = 1_000;

/**
 * `stats`: of guest/PROTOCOL.md. `containing`: how many processes are not a command's - the first one of a container, that of another program
 * that builds its root, the egress relay.
 */
export async function containerUsage(stats: ReadonlyMap<string, number>, containing: number): Promise<ContainerUsage> {
  const counted = { cpu: stats.get("cpu-us"), memory: stats.get("memory-bytes"), pids: stats.get("pids"), io: stats.get("io-read") };
  const first = stats.get("pid") ?? 0;
  const shown = first > 0 && Object.values(counted).includes(undefined) ? await processUsage(first) : undefined;
  const throttledUs = stats.get("throttled-us");
  const throttledMs = throttledUs === undefined ? null : throttledUs / US_PER_MS;
  const besides = (tasks: number): number => Math.max(0, tasks - containing);
  return {
    cpu:
      counted.cpu === undefined
        ? fromProc(shown, ({ cpuMs }) => ({ usedMs: cpuMs, throttledMs }))
        : { usedMs: counted.cpu / US_PER_MS, throttledMs, by: "cgroup" },
    memory:
      counted.memory === undefined
        ? fromProc(shown, ({ memoryBytes }) => ({ bytes: memoryBytes, peakBytes: null }))
        : { bytes: counted.memory, peakBytes: stats.get("memory-peak") ?? null, by: "cgroup" },
    pids:
      counted.pids === undefined
        ? fromProc(shown, ({ tasks }) => ({ count: besides(tasks) }))
        : { count: besides(counted.pids), by: "cgroup" },
    io:
      counted.io === undefined
        ? fromProc(shown, ({ io }) => io)
        : { readBytes: counted.io, writtenBytes: stats.get("io-written") ?? 0, by: "cgroup" },
  };
}

function fromProc<T extends object>(
  shown: ProcessUsage | undefined,
  pick: (usage: ProcessUsage) => T | null,
): (T & { readonly by: "proc" }) | null {
  const picked = shown === undefined ? null : pick(shown);
  return picked === null ? null : { ...picked, by: "proc" };
}
