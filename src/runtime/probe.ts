// What this machine can do for sandboxes, tried rather than guessed: the guest's own tool asks the kernel, each runtime is really started.
// Used by `corral doctor`; the choice of a runtime does not wait for it. Invariant: what is missing is named with what mends it, and the
// order of preference is the order of the list: native, then bwrap, never silently another.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { freemem, release } from "node:os";
import { promisify } from "node:util";
import type { DoctorFinding, DoctorReport } from "../api/corral.ts";
import { type BwrapOptions, probeBwrap } from "./bwrap/runtime.ts";
import { machineFindings } from "./machine.ts";
import { type NativeOptions, probeNative } from "./native/runtime.ts";
import { findSubIds } from "./native/subids.ts";
import type { RuntimeProbe } from "./runtime.ts";
import { filterArch } from "./seccomp/filter.ts";

export interface ProbeOptions {
  readonly native: NativeOptions;
  readonly bwrap: BwrapOptions;
  /** Where deltas are kept: its file system decides about quotas. */
  readonly dataDir: string;
}

export interface MachineProbe {
  readonly kernel: string;
  readonly findings: readonly DoctorFinding[];
  /** In order of preference. */
  readonly runtimes: readonly RuntimeProbe[];
  readonly limits: DoctorReport["limits"];
}

const TOOL_TIMEOUT_MS = 20_000;
/** Descriptors of spawner and server for one sandbox. */
const FILES_PER_SANDBOX = 5;
const FILES_OF_OURS = 64;
/** PID 1, and one command. */
const PROCESSES_PER_SANDBOX = 2;
/** An idle sandbox with its kernel objects, bytes (numbers: density). */
const MEMORY_PER_SANDBOX = 640 * 1024;

export async function probeMachine(options: ProbeOptions): Promise<MachineProbe> {
  const uid = process.geteuid?.() ?? 0;
  const [tried, native, bwrap] = await Promise.all([
    tryMachine(options.native.guestBinary),
    probeNative(options.native),
    probeBwrap(options.bwrap),
  ]);
  const findings = [
    architecture(),
    ...machineFindings({ root: "/", release: release(), uid, tried: tried.lines }),
    ...(tried.reason === "" ? [] : [guestMissing(tried.reason)]),
    ...(uid === 0 ? [] : [subIds()]),
    ...[native, bwrap].map(runtimeFinding),
    cgroups(native.available ? native : bwrap),
    quota(options.dataDir),
  ];
  return { kernel: release(), findings, runtimes: [native, bwrap], limits: machineLimits() };
}

interface Tried {
  readonly lines: ReadonlyMap<string, string>;
  readonly reason: string;
}

async function tryMachine(guest: string): Promise<Tried> {
  try {
    const { stdout } = await promisify(execFile)(guest, ["tool", "machine"], {
      env: {},
      cwd: "/",
      timeout: TOOL_TIMEOUT_MS,
      encoding: "latin1",
    });
    return { lines: parseTried(stdout), reason: "" };
  } catch (error) {
    return { lines: new Map(), reason: error instanceof Error ? error.message : String(error) };
  }
}

/** `NAME REST` lines of the guest's tool `machine`. */
export function parseTried(text: string): ReadonlyMap<string, string> {
  const lines = text.split("\n").filter((line) => line.includes(" "));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]));
}

function architecture(): DoctorFinding {
  if (filterArch() !== undefined) return { id: "arch", state: "ok", detail: `${process.arch}: there is a system call filter` };
  return {
    id: "arch",
    state: "missing",
    detail: `${process.arch}: there is no system call filter for it`,
    mend: "use a machine with x86-64 or arm64",
  };
}

function guestMissing(reason: string): DoctorFinding {
  return {
    id: "guest",
    state: "missing",
    detail: `the guest program could not be run: ${reason}`,
    mend: "guest/make.sh (needs cc and libc6-dev)",
  };
}

function subIds(): DoctorFinding {
  const found = findSubIds();
  if ("reason" in found) return { id: "sub-ids", state: "missing", detail: found.reason, mend: mendOf(found.reason) ?? "see man subuid" };
  return { id: "sub-ids", state: "ok", detail: `${found.count} ids beside your own may be mapped` };
}

/** The command at the end of a reason. */
function mendOf(reason: string): string | undefined {
  return /(?:^|[;:] )run: (.+)$/.exec(reason)?.[1];
}

function runtimeFinding(probe: RuntimeProbe): DoctorFinding {
  const id = `runtime-${probe.name}`;
  if (!probe.available) {
    const mend = mendOf(probe.reason);
    // bwrap is the second choice: without it nothing is lost while native works.
    return { id, state: probe.name === "native" ? "missing" : "weak", detail: probe.reason, ...(mend === undefined ? {} : { mend }) };
  }
  const walls = probe.weakenings.length === 0 ? "every wall stands" : `missing walls: ${probe.weakenings.join(", ")}`;
  return { id, state: probe.weakenings.length === 0 ? "ok" : "weak", detail: `works, ${probe.mode}; ${walls}` };
}

function cgroups(probe: RuntimeProbe): DoctorFinding {
  const mode = probe.features["cgroup"] ?? "unknown";
  const lost = probe.weakenings.filter((name) => name.endsWith("-not-limited") || name === "pids-by-rlimit");
  if (lost.length === 0) return { id: "cgroups", state: "ok", detail: `memory, processes and cpu are limited by cgroups (${mode})` };
  const mend =
    process.geteuid?.() === 0
      ? "mount cgroup v2 with the memory, pids and cpu controllers, or start Corral where it may write to them"
      : "systemd-run --user --scope -p Delegate=yes corral …";
  return { id: "cgroups", state: "weak", detail: `cgroups are ${mode}: ${lost.join(", ")}`, mend };
}

/** Project quotas would hold the size of a delta in the kernel; else a watcher does, which overshoots. */
function quota(dataDir: string): DoctorFinding {
  const lines = readFileSync("/proc/self/mountinfo", "latin1").split("\n");
  const options = lines
    .map((line) => ({ at: line.split(" ")[4] ?? "", options: line.split(" - ")[1]?.split(" ")[2] ?? "" }))
    .filter(({ at }) => at === "/" || dataDir === at || dataDir.startsWith(`${at}/`))
    .sort((a, b) => b.at.length - a.at.length)[0]?.options;
  if (options !== undefined && /\b(?:prjquota|pquota)\b/.test(options))
    return { id: "quota", state: "ok", detail: "the data directory's file system has project quotas; a watcher counts too" };
  return {
    id: "quota",
    state: "weak",
    detail:
      "disk and inodes of a delta are held by a watcher, which may overshoot: the file system of the data directory has no project quotas",
    mend: "mount it with prjquota",
  };
}

/** How many sandboxes at once each limit of this machine allows; `null`: it does not bound their number. */
export function machineLimits(): DoctorReport["limits"] {
  const files = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(content("/proc/self/limits"))?.[1] ?? "0");
  const rows: { name: string; value: string; sandboxes: number | null }[] = [
    { name: "ulimit -n (hard)", value: String(files), sandboxes: Math.max(0, Math.floor((files - FILES_OF_OURS) / FILES_PER_SANDBOX)) },
    // It counts within one mount namespace, and each sandbox has its own.
    { name: "fs.mount-max", value: content("/proc/sys/fs/mount-max").trim(), sandboxes: null },
    { name: "memory available", value: `${Math.floor(freemem() / 1024 ** 2)} MiB`, sandboxes: Math.floor(freemem() / MEMORY_PER_SANDBOX) },
  ];
  for (const name of ["kernel/pid_max", "kernel/threads-max"]) rows.push(sysctl(name, PROCESSES_PER_SANDBOX));
  for (const space of ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]) rows.push(sysctl(`user/max_${space}_namespaces`, 1));
  return rows.filter(({ value }) => value !== "");
}

function sysctl(path: string, perSandbox: number): { name: string; value: string; sandboxes: number } {
  const value = content(`/proc/sys/${path}`).trim();
  return { name: path.replaceAll("/", "."), value, sandboxes: Math.floor(Number(value) / perSandbox) };
}

function content(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
