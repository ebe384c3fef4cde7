// What the sandboxes of one runtime instance take together, read from the cgroup above theirs: a handful of small files, however many
// sandboxes there are. Invariant: what the machine does not count is `null`, never a zero.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RuntimeUsage } from "../../api/corral.ts";
import type { CgroupParents } from "./cgroups.ts";

const US_PER_SECOND = 1_000_000;

export function cgroupUsage(parents: CgroupParents | undefined): Omit<RuntimeUsage, "sandboxes"> {
  const v2 = parents?.v2;
  const memory = parents?.v1.find(({ controller }) => controller === "memory");
  const counter = memory === undefined ? textOf(v2?.dir, "memory.current") : textOf(memory.dir, "memory.usage_in_bytes");
  const cpuUs = /^usage_usec (\d+)$/m.exec(textOf(v2?.dir, "cpu.stat") ?? "")?.[1];
  return {
    memoryBytes: counter === undefined ? null : Number(counter),
    cpuSeconds: cpuUs === undefined ? null : Number(cpuUs) / US_PER_SECOND,
    io: ioOf(textOf(v2?.dir, "io.stat")),
  };
}

/** A line a device: `8:0 rbytes=1 wbytes=2 rios=…`. */
export function ioOf(stat: string | undefined): RuntimeUsage["io"] {
  if (stat === undefined) return null;
  const sum = (name: string): number =>
    [...stat.matchAll(new RegExp(`\\b${name}=(\\d+)`, "g"))].reduce((total, [, bytes]) => total + Number(bytes), 0);
  return { readBytes: sum("rbytes"), writtenBytes: sum("wbytes") };
}

function textOf(dir: string | undefined, name: string): string | undefined {
  if (dir === undefined) return undefined;
  try {
    return readFileSync(join(dir, name), "latin1").trim();
  } catch {
    return undefined; // the controller is not there
  }
}
