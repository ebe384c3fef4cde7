// Gets a runtime its spawner: starts one, or, where spawners outlive their servers, takes over the one that waits. With it come the cgroups
// that its sandboxes live in. Not what becomes of sandboxes. Invariant: a spawner is taken over only when it was configured exactly as
// we would configure ours; any other is ended, with all that it holds, before ours is started.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CorralError, errorCode } from "../../api/errors.ts";
import { identify, type ProcessIdentity } from "../../base/process-identity.ts";
import { type CgroupParents, findCgroups, parentsOf } from "./cgroups.ts";
import { type Adopted, Spawner, type SpawnerEvents, type SpawnerOptions } from "./spawner.ts";

export interface LiveParts {
  readonly options: SpawnerOptions;
  readonly events: SpawnerEvents;
  readonly root: boolean;
  /** BPF program of the sandboxes. */
  readonly seccomp: Uint8Array;
  /** Those of this process, for a spawner that ends with it. */
  readonly cgroups: CgroupParents | undefined;
  readonly self: ProcessIdentity;
}

export interface LiveSpawner {
  readonly spawner: Spawner;
  readonly cgroups: CgroupParents;
  readonly keeper: ProcessIdentity;
  readonly facts: ReadonlyMap<string, string>;
  /** What lived in it when it was taken over. */
  readonly adopted: readonly string[];
}

/** Bytes of filter in one record. */
const HEX_BYTES = 16 * 1024;
/** Descriptors that the spawner may hold: four for each sandbox. */
const SPAWNER_FILES = 65_536;
/** A server that was killed holds its end of the socket until the kernel has taken it apart. */
const BUSY_MS = 5_000;
const BUSY_PAUSE_MS = 20;

export async function openSpawner(parts: LiveParts): Promise<LiveSpawner> {
  return (await takeOver(parts)) ?? (await start(parts));
}

async function takeOver(parts: LiveParts): Promise<LiveSpawner | undefined> {
  const { lasting } = parts.options;
  if (lasting === undefined) return undefined;
  for (let waited = 0; ; waited += BUSY_PAUSE_MS) {
    const spawner = await Spawner.connect(lasting.socket, parts.events);
    if (spawner === undefined) return undefined;
    try {
      return await accept(parts, spawner, await spawner.adopt());
    } catch (error) {
      if (errorCode(error) !== "spawner_lost") throw error;
      if (waited >= BUSY_MS)
        throw new CorralError("runtime_unavailable", `the spawner at ${lasting.socket} serves another process, which must end first`);
    }
    await sleep(BUSY_PAUSE_MS);
  }
}

async function accept(parts: LiveParts, spawner: Spawner, told: Adopted): Promise<LiveSpawner | undefined> {
  // SAFETY: an older build, or another filter, would go on in every sandbox that is made from now on.
  if (told.mark !== markOf(parts)) {
    await spawner.close();
    return undefined;
  }
  return { spawner, keeper: named(spawner), cgroups: parentsOf(told.cg1, told.cg2), facts: shown(told.facts), adopted: told.sandboxes };
}

function named(spawner: Spawner): ProcessIdentity {
  const identity = identify(spawner.pid);
  if (identity === undefined) throw new CorralError("spawner_lost", `the spawner, process ${spawner.pid}, ended, or is not in /proc`);
  return identity;
}

/** What a person is told of it. */
function shown(facts: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  return new Map([...facts].filter(([name]) => name !== "pid" && name !== "mark"));
}

async function start(parts: LiveParts): Promise<LiveSpawner> {
  const spawner = Spawner.start(parts.options, parts.events);
  try {
    const keeper = parts.options.lasting === undefined ? parts.self : named(spawner);
    const cgroups = parts.cgroups ?? findCgroups(parts.root, keeper);
    const facts = await spawner.configure(configuration(parts, cgroups));
    return { spawner, keeper, cgroups, facts, adopted: [] };
  } catch (error) {
    await spawner.close();
    throw error;
  }
}

function configuration(parts: LiveParts, { v1, v2 }: CgroupParents): string[][] {
  const list: string[][] = [["nofile", String(SPAWNER_FILES)]];
  if (parts.options.lasting !== undefined) list.push(["mark", markOf(parts)]);
  const hex = Buffer.from(parts.seccomp).toString("hex");
  for (let at = 0; at < hex.length; at += HEX_BYTES) list.push(["seccomp", hex.slice(at, at + HEX_BYTES)]);
  if (v2 !== undefined) list.push(["cg2", v2.dir, v2.controllers.join(",")]);
  for (const { controller, dir } of v1) list.push(["cg1", controller, dir]);
  return list;
}

/** Of all that a spawner was started and configured with, but its cgroups. */
function markOf({ options, seccomp, root }: LiveParts): string {
  const { rootless = null, allowWeaken = false, failStep = 0 } = options;
  const hash = createHash("sha256").update(readFileSync(options.guestBinary)).update(seccomp);
  return hash.update(JSON.stringify([root, rootless, allowWeaken, failStep])).digest("hex");
}
