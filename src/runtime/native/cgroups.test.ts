import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { findCgroups, parseMounts } from "./cgroups.ts";

const MOUNTINFO = [
  "22 20 0:20 / /proc rw - proc proc rw",
  "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
  "32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
  "33 25 0:29 / /mnt/odd\\040name rw shared:9 - cgroup cgroup rw,memory",
  "",
].join("\n");

describe("parseMounts", () => {
  it("finds cgroup mounts with their controllers, whatever their path", () => {
    expect(parseMounts(MOUNTINFO)).toEqual([
      { type: "cgroup2", path: "/sys/fs/cgroup/unified", controllers: [] },
      { type: "cgroup", path: "/sys/fs/cgroup/cpu,cpuacct", controllers: ["rw", "cpu", "cpuacct"] },
      { type: "cgroup", path: "/mnt/odd name", controllers: ["rw", "memory"] },
    ]);
  });
});

describe("findCgroups", () => {
  it("makes one directory per controller, names what is missing, and takes all away", async (context) => {
    if (process.geteuid?.() !== 0) context.skip("only root may make cgroups here");
    const found = findCgroups(true);
    const dirs = [...found.v1.map(({ dir }) => dir), ...(found.v2 === undefined ? [] : [found.v2.dir])];
    if (dirs.length === 0) context.skip("this machine mounts no cgroups");
    expect(dirs.filter((dir) => !existsSync(dir))).toEqual([]);
    const limited = new Set([...found.v1.map(({ controller }) => controller), ...(found.v2?.controllers ?? [])]);
    expect(found.weakenings.includes("memory-not-limited")).toBe(!limited.has("memory"));
    expect(found.weakenings.includes("cpu-not-limited")).toBe(!limited.has("cpu"));
    await found.remove();
    expect(dirs.filter((dir) => existsSync(dir))).toEqual([]);
  });

  it("keeps two instances of one process apart, and sweeps those of processes that are gone", async (context) => {
    if (process.geteuid?.() !== 0) context.skip("only root may make cgroups here");
    const first = findCgroups(true);
    const dir = first.v1[0]?.dir ?? first.v2?.dir;
    if (dir === undefined) context.skip("this machine mounts no cgroups");
    const ours = dirname(dir as string);
    // A pid beyond what the kernel gives out, and a living one that began at another time.
    const gone = [`${Number(readFileSync("/proc/sys/kernel/pid_max", "latin1")) + 1}-77`, `${process.pid}-1`];
    for (const name of gone) mkdirSync(join(ours, name, "sbold"), { recursive: true });
    const foreign = join(ours, "not-ours");
    mkdirSync(foreign, { recursive: true });
    const second = findCgroups(true);
    try {
      expect(second.v1.map((entry) => entry.dir)).not.toEqual(first.v1.map((entry) => entry.dir));
      expect(gone.filter((name) => existsSync(join(ours, name)))).toEqual([]);
      expect(existsSync(foreign)).toBe(true);
      expect(existsSync(dir as string)).toBe(true);
    } finally {
      await second.remove();
      await first.remove();
      rmdirSync(foreign);
    }
  });
});
