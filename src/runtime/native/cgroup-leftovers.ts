// Cgroups that a spawner which was killed could not remove: finds them by the id that is their name, ends what is in them, removes them.
// Not the way a sandbox ends by itself: its spawner does that. Invariant: only a directory named by a sandbox id, directly below a
// parent that is ours, is touched.

import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isId } from "../../api/ids.ts";
import { parseMounts } from "./cgroups.ts";

/** How often and how long a cgroup is asked whether it is empty; a killed process leaves it within milliseconds. */
const TRIES = 100;
const PAUSE_MS = 20;

/** Directories that hold, or held, sandboxes' cgroups: one for each runtime instance, of this process and of others. */
export function cgroupParents(): readonly string[] {
  const mounts = parseMounts(readFileSync("/proc/self/mountinfo", "latin1"));
  const own = readFileSync("/proc/self/cgroup", "latin1");
  const homes = mounts.flatMap(({ type, path }) => (type === "cgroup2" ? [path, ...delegates(path, own)] : [path]));
  return [...new Set(homes)].flatMap((home) => listDirs(join(home, "corral")).map((instance) => join(home, "corral", instance)));
}

/** Every directory above this process's own cgroup: an ordinary user's sandboxes lie below one that was handed to that user. */
function delegates(top: string, own: string): readonly string[] {
  const path = /^0::(\/.*)$/m.exec(own)?.[1] ?? "/";
  const names = path.split("/").filter((name) => name !== "");
  return names.map((_, index) => join(top, ...names.slice(0, index + 1)));
}

/** Ids of the sandboxes that have a cgroup below `parents`. */
export function cgroupIds(parents: readonly string[]): ReadonlySet<string> {
  return new Set(parents.flatMap((parent) => listDirs(parent)).filter((name) => isId("sandbox", name)));
}

/** Removes the cgroups of one sandbox; returns how many there were. Throws when one cannot be emptied. */
export async function removeCgroups(parents: readonly string[], id: string): Promise<number> {
  let removed = 0;
  for (const parent of parents) {
    const dir = join(parent, id);
    if (!existsSync(dir)) continue;
    await emptied(dir);
    removed += 1;
  }
  return removed;
}

async function emptied(dir: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    kill(dir);
    try {
      removeTree(dir);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return;
      if (code !== "EBUSY" || tries >= TRIES) throw error;
    }
    await sleep(PAUSE_MS);
  }
}

function kill(dir: string): void {
  const killer = join(dir, "cgroup.kill");
  if (existsSync(killer)) {
    // SAFETY: the directory is named by an id of ours and its spawner is dead, so nothing but that sandbox's processes is in it.
    writeFileSync(killer, "1");
    return;
  }
  const freezer = join(dir, "freezer.state");
  if (existsSync(freezer)) writeFileSync(freezer, "THAWED"); // what is frozen there takes no signal
  for (const pid of pidsOf(dir)) {
    try {
      // SAFETY: the pid was read from that cgroup a moment ago; without this a leftover of a killed run would live on unseen.
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended between the reading and now, which is what was wanted.
    }
  }
}

function pidsOf(dir: string): readonly number[] {
  const own = lines(join(dir, "cgroup.procs")).map(Number);
  return [...own, ...listDirs(dir).flatMap((name) => pidsOf(join(dir, name)))].filter((pid) => pid > 1 && pid !== process.pid);
}

/** A cgroup's files vanish with it; only its directories are removed. */
function removeTree(dir: string): void {
  for (const name of listDirs(dir)) removeTree(join(dir, name));
  rmdirSync(dir);
}

function listDirs(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return []; // no such hierarchy on this machine, or gone
  }
}

function lines(file: string): readonly string[] {
  try {
    return readFileSync(file, "latin1")
      .split("\n")
      .filter((line) => line !== "");
  } catch {
    return [];
  }
}
