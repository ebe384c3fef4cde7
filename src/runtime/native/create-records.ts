// A ContainerSpec as the records of CREATE (guest/PROTOCOL.md). Pure. Every value travels as a string of its own, so nothing in a
// spec can become another record. Invariant: order of mounts is the spec's order.

import { CorralError } from "../../api/errors.ts";
import type { IdMap, MountSpec, OverlayMount } from "../../view/view.ts";
import { networkRecords } from "./network.ts";
import type { ContainerSpec, SystemMount } from "../runtime.ts";

const CPU_PERIOD_US = 100_000;
/** Smallest quota that the kernel takes. */
const CPU_LEAST_US = 1_000;

export function createRecords(spec: ContainerSpec, ids: IdMap, socketPath: string): string[][] {
  const { limits } = spec;
  const records: string[][] = [
    ["id", spec.id],
    ["socket", socketPath],
    ["journal", spec.journalFile],
    ["hostname", spec.hostname],
    ["idmap", "0", String(ids.base), String(ids.count)],
    ["user", String(ids.uid), String(ids.gid)],
    ["root", spec.root === true ? "1" : "0"],
    ["memory", String(limits.memoryBytes)],
    ["pids", String(limits.pids)],
    ["nofile", String(limits.openFiles)],
  ];
  if (limits.cpus !== null) {
    records.push(["cpu", String(Math.max(CPU_LEAST_US, Math.round(limits.cpus * CPU_PERIOD_US))), String(CPU_PERIOD_US)]);
  }
  records.push(...networkRecords(spec, ids));
  for (const [name, value] of Object.entries(spec.env)) {
    if (name === "" || name.includes("="))
      throw new CorralError("request_invalid", `${JSON.stringify(name)} is no name of a variable; use one without "="`);
    records.push(["env", `${name}=${value}`]);
  }
  for (const mount of spec.mounts) records.push(...mountRecords(mount));
  for (const step of spec.weaken ?? []) records.push(["weaken", String(step)]);
  return records;
}

function mountRecords(mount: MountSpec | SystemMount): string[][] {
  switch (mount.kind) {
    case "overlay":
      return overlayRecords(mount);
    case "bind":
      return [["bind", mount.target, mount.source, flag(mount.readOnly), flag(mount.exec)]];
    case "tmpfs":
      return [["tmpfs", mount.target, String(mount.sizeBytes), String(mount.inodes), String(mount.mode), flag(mount.own)]];
    case "proc":
      return [
        ["proc", mount.target],
        ...mount.readOnly.map((name) => ["procro", name]),
        ...mount.hide.map((name) => ["prochide", name]),
        ...Object.entries(mount.files).map(([name, content]) => ["procfile", name, content]),
      ];
    case "file":
      return [["file", mount.target, String(mount.mode), mount.content]];
    case "devpts":
    case "dev":
      return [[mount.kind, mount.target]];
  }
}

export function overlayRecords(mount: OverlayMount): string[][] {
  const records: string[][] = [["overlay", mount.target, flag(mount.exec)]];
  for (const path of mount.lowers) records.push(["lower", path]);
  for (const path of mount.dataOnly ?? []) records.push(["data", path]);
  if (mount.upper !== undefined) records.push(["upper", mount.upper]);
  if (mount.work !== undefined) records.push(["work", mount.work]);
  for (const option of mount.options) records.push(["opt", option]);
  if (mount.idmap !== undefined) {
    const { fromUid, fromGid, toUid, toGid } = mount.idmap;
    records.push(["idmap-lower", String(fromUid), String(fromGid), String(toUid), String(toGid)]);
  }
  records.push(["end"]);
  return records;
}

function flag(value: boolean): string {
  return value ? "1" : "0";
}
