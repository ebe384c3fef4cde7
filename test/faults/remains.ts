// What is left of a server's sandboxes on this machine, looked for without starting anything that would clear it away.
// Invariant: only what carries an id of the run, its data directory or its spawner is counted, so that others may run beside it.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { openDataDir } from "../../src/sandbox/data-dir.ts";
import { takeCensus } from "../../src/sandbox/census.ts";

export function dataOf(path: string): ReturnType<typeof openDataDir> {
  return openDataDir({ path, env: process.env, uid: process.getuid?.() ?? 0 });
}

/** Spawners that wait, or serve, for the data directory. */
export function spawnersOf(path: string): readonly number[] {
  const { run } = dataOf(path);
  const found = pids().filter((pid) => readText(`/proc/${pid}/cmdline`).includes(`--listen\0${run}/`));
  // A process that a spawner has just forked has its command line until it is what it will be: a sandbox that is being started. One that
  // has ended since has no parent to tell.
  return found.filter((pid) => {
    const parent = /^PPid:\s*(\d+)$/m.exec(readText(`/proc/${pid}/status`))?.[1];
    return parent !== undefined && !found.includes(Number(parent));
  });
}

/** Of sandboxes with these ids and of these spawners. Empty when nothing is left. */
export function remainsOf(
  path: string,
  ids: ReadonlySet<string>,
  spawners: readonly number[],
  networks: ReadonlySet<string>,
): readonly string[] {
  const data = dataOf(path);
  const entries = takeCensus(data).filter(
    ({ kind, name, sandboxId }) =>
      ids.has(sandboxId ?? "") ||
      kind === "mount" ||
      kind === "socket" ||
      kind === "journal" ||
      kind === "delta" ||
      spawners.some((pid) => name.includes(`corral/${pid}-`) || name.startsWith(`${pid} spawner`)),
  );
  const held = pids().filter((pid) => networks.has(linkOf(`/proc/${pid}/ns/net`)));
  const instances = cgroupInstances().filter((name) => spawners.some((pid) => name.includes(`/${pid}-`)));
  return [
    ...entries.map(({ kind, name }) => `${kind} ${name}`),
    ...spawnersOf(path).map((pid) => `spawner ${pid}`),
    ...held.map((pid) => `network namespace of process ${pid}`),
    ...instances.map((name) => `cgroup ${name}`),
  ];
}

/** Directories that runtimes made for themselves. */
function cgroupInstances(): readonly string[] {
  const tops = readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => join(line.split(" ")[4] ?? "", "corral"));
  return tops.flatMap((top) => list(top).map((name) => join(top, name)));
}

/** Inodes of network namespaces in which processes of the spawners' sandboxes live now. */
export function networksOf(spawners: readonly number[]): readonly string[] {
  const own = linkOf("/proc/self/ns/net");
  const inside = pids().filter((pid) => spawners.some((spawner) => readText(`/proc/${pid}/cgroup`).includes(`/corral/${spawner}-`)));
  return [...new Set(inside.map((pid) => linkOf(`/proc/${pid}/ns/net`)))].filter((network) => network !== "" && network !== own);
}

function pids(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function list(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return ""; // it ended meanwhile
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
