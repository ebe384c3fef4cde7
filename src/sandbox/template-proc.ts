// What of /proc a sandbox sees (containment step 12): names that are kept, made read-only, or replaced by the sandbox's own figures.
// Everything else that this kernel has is covered, so a name that nobody judged is never shown.
// Invariant: no figure of the node or of another sandbox stands in a file of /proc that a sandbox can read.

import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { SystemMount } from "../runtime/runtime.ts";

/** Shown as the kernel has them: cut by the sandbox's own namespaces, or the same on every machine with this kernel and processor. */
export const PROC_KEPT: ReadonlySet<string> = new Set([
  "self",
  "thread-self",
  "mounts",
  "net",
  "sysvipc",
  "cpuinfo",
  "version",
  "version_signature",
  "filesystems",
  "devices",
  "misc",
  "crypto",
  "dma",
  "execdomains",
  "consoles",
  "tty",
]);

/**
 * Shown, but not to be written. SAFETY: a writable `sys` reaches core_pattern and modprobe, programs that the node's kernel starts as
 * its root; `bus`, `irq` and `fs` configure hardware and file systems.
 */
export const PROC_READ_ONLY: ReadonlySet<string> = new Set(["sys", "bus", "irq", "fs"]);

/** Replaced by files made from the sandbox's limits: the kernel's own tell what the rest of the node does. */
export const PROC_REPLACED: ReadonlySet<string> = new Set(["loadavg", "stat", "meminfo", "uptime"]);

export interface ProcLimits {
  readonly memoryBytes: number;
}

/** The proc mount with its covers, from the names that this kernel has. */
export function procMount(limits: ProcLimits, names: readonly string[] = procNames()): SystemMount {
  const here = new Set(names);
  const judged = (name: string): boolean => PROC_KEPT.has(name) || PROC_READ_ONLY.has(name) || PROC_REPLACED.has(name);
  const made = Object.entries(procFiles(limits)).filter(([name]) => here.has(name.split("/")[0] ?? ""));
  return {
    kind: "proc",
    target: "/proc",
    hide: names.filter((name) => !judged(name)),
    readOnly: names.filter((name) => PROC_READ_ONLY.has(name)),
    files: Object.fromEntries(made),
  };
}

/** Top-level names of this kernel's /proc that are no process. */
export function procNames(): string[] {
  return readdirSync("/proc").filter((name) => !/^\d+$/.test(name));
}

function procFiles(limits: ProcLimits): Readonly<Record<string, string>> {
  return {
    meminfo: meminfo(limits.memoryBytes),
    stat: stat(availableParallelism()),
    loadavg: "0.00 0.00 0.00 1/1 1\n",
    uptime: "1.00 1.00\n",
    // Programs take it for the identity of a boot: the node's own would tie sandboxes of one machine together.
    "sys/kernel/random/boot_id": `${randomUUID()}\n`,
  };
}

function meminfo(memoryBytes: number): string {
  const total = Math.floor(memoryBytes / 1024);
  const zero = [
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
  ];
  const lines: readonly (readonly [string, number])[] = [
    ["MemTotal", total],
    ["MemFree", total],
    ["MemAvailable", total],
    ...zero.map((name) => [name, 0] as const),
    ["CommitLimit", total],
    ["Committed_AS", 0],
  ];
  return lines.map(([name, value]) => `${`${name}:`.padEnd(16)}${String(value).padStart(8)} kB\n`).join("");
}

/** One line per processor of cpuinfo: runtimes count them here. */
function stat(processors: number): string {
  const figures = "0 0 0 0 0 0 0 0 0 0";
  const cpus = Array.from({ length: processors }, (_, index) => `cpu${index} ${figures}\n`).join("");
  return `cpu  ${figures}\n${cpus}intr 0\nctxt 0\nbtime ${Math.floor(Date.now() / 1000)}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n`;
}
