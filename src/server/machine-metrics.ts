// What the machine and this process take, read from /proc at each scrape: the names say `node` for the machine, `server` for us.
// Invariant: a file that this kernel does not have leaves its numbers out; nothing is kept between two scrapes.

import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import type { Registry } from "prom-client";
import { type Family, type Put, watched, watchedTotal } from "./instruments.ts";

const SECTOR_BYTES = 512;
const KIB = 1_024;
/** `USER_HZ`, which Linux shows as 100 on every machine. */
const TICKS_PER_SECOND = 100;

export function watchMachine(registry: Registry, dataDir: string): void {
  const gauge = (family: Family, collect: (put: Put) => void): void => watched(registry, family, collect);
  gauge({ name: "node_memory_ratio", help: "Memory of the machine that is in use" }, (put) => {
    const text = textOf("/proc/meminfo");
    const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.NaN) * KIB;
    const ratio = 1 - bytes("MemAvailable") / bytes("MemTotal");
    if (Number.isFinite(ratio)) put({}, ratio);
  });
  gauge({ name: "node_cpu_ratio", help: "Processes that run or want to, for each core, over the last minute" }, (put) =>
    put({}, (loadavg()[0] ?? 0) / availableParallelism()),
  );
  gauge({ name: "node_disk_free_ratio", help: "Space that is free where the data directory lies" }, (put) => {
    const { bavail, blocks } = statfsSync(dataDir);
    if (blocks > 0) put({}, bavail / blocks);
  });
  const cpu = { name: "node_cpu_seconds_total", help: "CPU time of the machine", labels: ["mode"] };
  watchedTotal(registry, cpu, (put) => {
    const [, user = 0, nice = 0, system = 0, idle = 0, iowait = 0] = (textOf("/proc/stat").split("\n")[0] ?? "").split(/\s+/).map(Number);
    for (const [mode, ticks] of Object.entries({ user: user + nice, system, idle, iowait })) put({ mode }, ticks / TICKS_PER_SECOND);
  });
  const disk = { name: "node_io_bytes_total", help: "Traffic of the machine's disks", labels: ["direction"] };
  watchedTotal(registry, disk, (put) => {
    const { read, written } = diskSectors(textOf("/proc/diskstats"));
    put({ direction: "read" }, read * SECTOR_BYTES);
    put({ direction: "write" }, written * SECTOR_BYTES);
  });
  const own = { name: "server_io_bytes_total", help: "Disk traffic of the server's own process", labels: ["direction"] };
  watchedTotal(registry, own, (put) => {
    const text = textOf("/proc/self/io");
    for (const [direction, name] of [
      ["read", "read_bytes"],
      ["write", "write_bytes"],
    ] as const) {
      const bytes = new RegExp(`^${name}: (\\d+)`, "m").exec(text)?.[1];
      if (bytes !== undefined) put({ direction }, Number(bytes));
    }
  });
}

/** Whole disks alone: a partition's traffic is its disk's, and what a mapper does happens on disks. */
export function diskSectors(diskstats: string): { readonly read: number; readonly written: number } {
  let read = 0;
  let written = 0;
  for (const line of diskstats.split("\n")) {
    const [, , name = "", , , sectorsRead, , , , sectorsWritten] = line.trim().split(/\s+/);
    if (!/^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/.test(name)) continue;
    read += Number(sectorsRead);
    written += Number(sectorsWritten);
  }
  return { read, written };
}

/** Empty when this kernel does not tell. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
