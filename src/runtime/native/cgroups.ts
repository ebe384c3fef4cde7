// Finds where this process may keep cgroups and makes one directory per runtime instance there: v1 controllers, v2, both, or none.
// Limits of a sandbox are the spawner's work (guest/cgroup.c). Invariant: a directory is made only below `corral/`, and what is
// removed carries the mark of an instance whose process is gone; a controller that is missing is named in `weakenings`.

import { accessSync, constants, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { identify, isAlive, type ProcessIdentity } from "../../base/process-identity.ts";

export interface CgroupParents {
  readonly mode: "v2" | "v1" | "hybrid" | "none";
  readonly v2: { readonly dir: string; readonly controllers: readonly string[] } | undefined;
  readonly v1: readonly { readonly controller: string; readonly dir: string }[];
  readonly weakenings: readonly string[];
  /** Takes the instance's directories away; sandboxes must be gone, and a spawner that sits in it. */
  remove(): Promise<void>;
}

export interface CgroupMount {
  readonly type: "cgroup" | "cgroup2";
  readonly path: string;
  readonly controllers: readonly string[];
}

/** What limits a sandbox; `cpuacct` only measures. */
const V1_WANTED = ["memory", "pids", "cpu"] as const;
const V2_WANTED = ["memory", "pids", "cpu"] as const;
const FREEZER = "freezer";
/** Limits nothing, only counts; its absence weakens no wall. */
const V2_COUNTED = ["io"] as const;
const OURS = "corral";
/** No id of a sandbox is spelled so. */
const SPAWNER_DIR = "spawner";
/** A process that has ended leaves its cgroup a moment later. */
const REMOVE_TRIES = 100;
const REMOVE_PAUSE_MS = 5;

/**
 * Makes the instance of a runtime. `spawner`: one that outlives this process. The instance is then the spawner's, by name too, and it sits
 * there itself: a service manager that ends what is left of a server ends a cgroup.
 */
export function findCgroups(root: boolean, spawner?: ProcessIdentity): CgroupParents {
  const instance = instanceName(spawner ?? identify(process.pid));
  const mounts = parseMounts(readFileSync("/proc/self/mountinfo", "latin1"));
  const v1: { controller: string; dir: string }[] = [];
  for (const controller of V1_WANTED) {
    const mount = mounts.find(({ type, controllers }) => type === "cgroup" && controllers.includes(controller));
    const dir = mount === undefined ? undefined : makeInstance(mount.path, instance);
    if (dir !== undefined) v1.push({ controller, dir });
  }
  const unified = mounts.find(({ type }) => type === "cgroup2");
  const v2 = unified === undefined ? undefined : makeUnified(unified.path, root, instance);
  if (v2 !== undefined && spawner !== undefined) moveSpawner(v2.dir, spawner.pid);
  // Where a v2 tree is, it freezes; a v1 directory for each sandbox is made only where nothing else can.
  const freezer = mounts.find(({ controllers }) => controllers.includes(FREEZER));
  const frozen = v2 !== undefined || freezer === undefined ? undefined : makeInstance(freezer.path, instance);
  if (frozen !== undefined) v1.push({ controller: FREEZER, dir: frozen });
  return parentsOf(v1, v2);
}

/** The instance of a spawner that an earlier process left, as it tells it. */
export function parentsOf(v1: CgroupParents["v1"], v2: CgroupParents["v2"]): CgroupParents {
  return {
    mode: v2 === undefined ? (v1.length > 0 ? "v1" : "none") : v1.length > 0 ? "hybrid" : "v2",
    v2,
    v1,
    weakenings: missing([...v1.map(({ controller }) => controller), ...(v2?.controllers ?? [])], v2 !== undefined),
    remove: async () => {
      for (const { dir } of v1) await removeSoon(dir);
      if (v2 === undefined) return;
      await removeSoon(join(v2.dir, SPAWNER_DIR));
      await removeSoon(v2.dir);
    },
  };
}

/** What makes all processes of a sandbox stand still. */
export function freezerOf({ v1, v2 }: Pick<CgroupParents, "v1" | "v2">): "v2" | "v1" | "none" {
  if (v2 !== undefined) return "v2";
  return v1.some(({ controller }) => controller === FREEZER) ? "v1" : "none";
}

/** Where that is refused it stays beside the server: then it lives as long as whoever rules that cgroup wants. */
function moveSpawner(dir: string, pid: number): void {
  try {
    const leaf = join(dir, SPAWNER_DIR);
    mkdirSync(leaf, { mode: 0o755 });
    writeFileSync(join(leaf, "cgroup.procs"), String(pid));
  } catch {
    // Moving needs rights on the common parent of both places.
  }
}

/** Names of walls that do not stand. */
function missing(controllers: readonly string[], killable: boolean): string[] {
  const names: string[] = [];
  if (!controllers.includes("memory")) names.push("memory-not-limited");
  if (!controllers.includes("pids")) names.push("pids-by-rlimit");
  if (!controllers.includes("cpu")) names.push("cpu-not-limited");
  if (!killable) names.push("tree-kill-by-process");
  return names;
}

export function parseMounts(mountinfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of mountinfo.split("\n")) {
    const [left = "", right = ""] = line.split(" - ");
    const [type, , options = ""] = right.split(" ");
    const path = left.split(" ")[4];
    if (path === undefined || (type !== "cgroup" && type !== "cgroup2")) continue;
    mounts.push({ type, path: unescapeOctal(path), controllers: type === "cgroup" ? options.split(",") : [] });
  }
  return mounts;
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** `<pid>-<start ticks>`: tells a sweeper whether its owner lives. */
function instanceName(owner: ProcessIdentity | undefined): string {
  return `${owner?.pid ?? process.pid}-${owner?.startTicks ?? "0"}`;
}

function makeInstance(top: string, instance: string): string | undefined {
  const ours = join(top, OURS);
  try {
    mkdirSync(ours, { recursive: true, mode: 0o755 });
    sweep(ours);
    const dir = join(ours, freeName(ours, instance));
    mkdirSync(dir, { mode: 0o755 });
    return dir;
  } catch {
    return undefined; // not ours to write: the caller names what is missing
  }
}

/** A process may hold several runtimes. */
function freeName(ours: string, instance: string): string {
  const taken = new Set(readdirSync(ours));
  for (let n = 0; ; n++) {
    const name = n === 0 ? instance : `${instance}-${n}`;
    if (!taken.has(name)) return name;
  }
}

function makeUnified(top: string, root: boolean, instance: string): CgroupParents["v2"] {
  const base = root ? top : delegated(top);
  if (base === undefined) return undefined;
  enable(base);
  const dir = makeInstance(base, instance);
  if (dir === undefined) return undefined;
  enable(dirname(dir));
  return { dir, controllers: enable(dir) };
}

/** The highest directory above our own cgroup that this user may write: moving a process within it needs rights on it. */
function delegated(top: string): string | undefined {
  const line = readFileSync("/proc/self/cgroup", "latin1")
    .split("\n")
    .find((text) => text.startsWith("0::"));
  let found: string | undefined;
  for (let dir = join(top, line?.slice(3) ?? "/"); dir.startsWith(top); dir = dirname(dir)) {
    if (!writable(dir) || !writable(join(dir, "cgroup.procs"))) break;
    found = dir;
    if (dir === top) break;
  }
  return found;
}

function writable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Passes controllers on to the children of `dir`; returns those that are. A directory that holds processes refuses (EBUSY). */
function enable(dir: string): string[] {
  for (const controller of [...V2_WANTED, ...V2_COUNTED]) {
    try {
      writeFileSync(join(dir, "cgroup.subtree_control"), `+${controller}`);
    } catch {
      // Bound to v1, not passed on by the parent, or refused: what counts is read back below.
    }
  }
  const passed = readFileSync(join(dir, "cgroup.subtree_control"), "latin1").trim().split(/\s+/);
  return V2_WANTED.filter((controller) => passed.includes(controller));
}

/** Removes what instances left whose process is gone. */
function sweep(ours: string): void {
  for (const name of readdirSync(ours)) {
    const match = /^(\d+)-(\d+)(-\d+)?$/.exec(name);
    if (match === null) continue;
    const pid = Number(match[1]);
    const now = identify(pid);
    if (now !== undefined && now.startTicks === match[2] && isAlive(now)) continue;
    removeTree(join(ours, name));
  }
}

/** Directories alone can be removed here; one with a living process refuses. */
function removeTree(dir: string): void {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(join(dir, entry.name));
    }
  } catch {
    return; // gone meanwhile
  }
  removeEmpty(dir);
}

function removeEmpty(dir: string): boolean {
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    // Not empty: the next start sweeps.
    return (error as NodeJS.ErrnoException).code !== "EBUSY";
  }
}

async function removeSoon(dir: string): Promise<void> {
  for (let tries = 0; !removeEmpty(dir) && tries < REMOVE_TRIES; tries++) await sleep(REMOVE_PAUSE_MS);
}
