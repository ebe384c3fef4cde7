// Lists what of Corral lives now: processes, cgroups, mounts, sockets, journals, deltas. Reads /proc, cgroupfs and its own directories.
// It changes nothing. Invariant: an entry is `owned` only when a living process answers for it (for a delta: or a record keeps it);
// everything else is a leftover, so a machine in order has none.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CensusEntry } from "../api/corral.ts";
import { isId } from "../api/ids.ts";
import { identify, isAlive } from "../base/process-identity.ts";
import { listKept } from "../view/kept.ts";
import { cgroupIds, cgroupParents } from "../runtime/native/cgroup-leftovers.ts";
import { type DataDir, egressSockets } from "./data-dir.ts";
import { listJournal } from "./journal.ts";
import { isPaused } from "./paused-record.ts";

export function takeCensus(data: DataDir): readonly CensusEntry[] {
  const { entries, broken } = listJournal(data.journal);
  const live = new Set(entries.filter(({ maker }) => isAlive(maker)).map(({ id }) => id));
  const owned = (id: string | undefined): boolean => id !== undefined && live.has(id);
  const seen = lookAround();
  const listening = new Set(seen.map(({ socket }) => socket));
  return [
    ...processes(seen),
    ...cgroups(),
    ...mounts(data),
    ...sockets(data).map((name) => ({
      kind: "socket" as const,
      name,
      ...idIn(name),
      owned: owned(idIn(name).sandboxId) || listening.has(name),
    })),
    ...entries.map(({ id }) => ({ kind: "journal" as const, name: id, sandboxId: id, owned: owned(id) })),
    ...broken.map((name) => ({ kind: "journal" as const, name, owned: false })),
    ...deltas(data, owned),
  ];
}

/** Full paths. */
function sockets(data: DataDir): readonly string[] {
  const egress = egressSockets(data);
  return readdirSync(data.run)
    .map((name) => join(data.run, name))
    .flatMap((path) => (path === egress ? readdirSync(path).map((name) => join(path, name)) : [path]));
}

function idIn(text: string): { readonly sandboxId?: string } {
  const id = /sb[a-z0-9]{20}/.exec(text)?.[0];
  return id === undefined ? {} : { sandboxId: id };
}

function deltas(data: DataDir, owned: (id: string) => boolean): readonly CensusEntry[] {
  const kept = new Set(
    listKept(data.deltas)
      .filter((record) => record.kept)
      .map(({ sandboxId }) => sandboxId),
  );
  return readdirSync(data.deltas)
    .filter((name) => isId("sandbox", name))
    .map((id) => ({ kind: "delta", name: id, sandboxId: id, owned: kept.has(id) || owned(id) || isPaused(data.deltas, id) }));
}

function cgroups(): readonly CensusEntry[] {
  return cgroupParents().flatMap((parent) =>
    [...cgroupIds([parent])].map((id) => ({
      kind: "cgroup" as const,
      name: join(parent, id),
      sandboxId: id,
      owned: isLiveInstance(parent),
    })),
  );
}

/** `<pid>-<start ticks>`, as the runtime names its directories. */
function isLiveInstance(path: string): boolean {
  const match = /(\d+)-(\d+)(?:-\d+)?$/.exec(path);
  const identity = match === null ? undefined : identify(Number(match[1]));
  return identity !== undefined && identity.startTicks === match?.[2] && isAlive(identity);
}

function mounts({ root, run }: DataDir): readonly CensusEntry[] {
  return readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((target) => [`${root}/`, `${run}/`].some((own) => target.startsWith(own)))
    .map((name) => ({ kind: "mount", name, ...idIn(name), owned: false }));
}

interface Seen {
  readonly pid: number;
  readonly parent: number;
  readonly role: string | undefined;
  readonly cgroup: string | undefined;
  /** Of a spawner that outlives its server: where it waits for the next one. */
  readonly socket: string | undefined;
  readonly sandboxId?: string;
}

function lookAround(): readonly Seen[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => look(Number(name)) ?? []);
}

function processes(seen: readonly Seen[]): readonly CensusEntry[] {
  const spawners = new Map(seen.filter(({ role }) => role === "spawner").map((one) => [one.pid, one]));
  return seen.map((one) => {
    const spawner = one.role === "spawner" ? one : spawners.get(one.parent);
    // A spawner that lost its server was given to init or to a reaper of orphans; it is about to end, unless it waits for the next.
    const served =
      spawner !== undefined && (spawner.socket !== undefined || (identify(spawner.parent) !== undefined && spawner.parent !== 1));
    const owned = one.cgroup === undefined ? served : isLiveInstance(one.cgroup);
    return {
      kind: "process",
      name: [one.pid, one.role ?? "command", one.cgroup ?? ""].join(" ").trimEnd(),
      ...(one.sandboxId === undefined ? {} : { sandboxId: one.sandboxId }),
      owned,
    };
  });
}

/** `undefined`: not one of ours, or gone. */
function look(pid: number): Seen | undefined {
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
    const role = /(?:^|\/)corral-guest$/.test(argv[0] ?? "") ? argv[1] : undefined;
    const place = /\/(corral\/\d+-\d+(?:-\d+)?)\/(sb[a-z0-9]{20})/.exec(readFileSync(`/proc/${pid}/cgroup`, "latin1"));
    if (role === undefined && place === null) return undefined;
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    const socket = role === "spawner" && argv.includes("--listen") ? argv[argv.indexOf("--listen") + 1] : undefined;
    return { pid, parent, role, cgroup: place?.[1], socket, ...(place?.[2] === undefined ? {} : { sandboxId: place[2] }) };
  } catch {
    return undefined; // it ended while we looked
  }
}
