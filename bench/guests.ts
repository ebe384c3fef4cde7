// Finds the PID 1 of every sandbox on this machine and says what memory each holds. Reads /proc alone.

import { readdirSync, readFileSync } from "node:fs";

/** Host pids of processes that are PID 1 of a namespace below ours. */
export function guestPids(): readonly string[] {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return /^NSpid:\t\d+\t1$/m.test(readFileSync(`/proc/${name}/status`, "latin1"));
    } catch {
      return false; // gone between listing and reading
    }
  });
}

/** Proportional set size of each process, KiB; one that is gone meanwhile is left out. */
export function pssKib(pids: readonly string[]): readonly number[] {
  return pids.flatMap((pid) => {
    try {
      return [Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1] ?? Number.NaN)];
    } catch {
      return []; // gone between listing and reading
    }
  });
}
