// Names a process so that a reused pid is not taken for it: pid, start time and boot. Not a lock and no proof of a living owner in
// another pid namespace. Invariant: `isAlive` is true only for the very process that was named.

import { readFileSync } from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot at which it started (field 22 of /proc/PID/stat). */
  readonly startTicks: string;
  readonly bootId: string;
}

export function identify(pid: number): ProcessIdentity | undefined {
  const startTicks = startOf(pid);
  return startTicks === undefined ? undefined : { pid, startTicks, bootId: bootId() };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identity.bootId === bootId() && identity.startTicks === startOf(identity.pid);
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may hold spaces and parentheses; fields are counted from its last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    return state === "Z" || state === "X" ? undefined : fields[19];
  } catch {
    return undefined; // no such process: what was asked
  }
}
