// The processes of a pid namespace from outside, and whether bytes are in the memory of one, which root alone may see. Changes nothing there.
// Invariant: pages that cannot be read are none that hold something.

import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";

const CHUNK_BYTES = 32 * 1024 * 1024;

/** Pids of this machine's processes in a pid namespace. `namespace`: as /proc/PID/ns/pid says. */
export function processesIn(namespace: string): string[] {
  return readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && readlinkSync(`/proc/${name}/ns/pid`) === namespace;
    } catch {
      return false; // it ended
    }
  });
}

/** Throws where the namespace has no process. */
export function isInMemory(namespace: string, bytes: string): boolean {
  const own = processesIn(namespace);
  if (own.length === 0) throw new Error(`no process is in ${namespace}`);
  return own.some((pid) => holds(pid, bytes));
}

function holds(pid: string, bytes: string): boolean {
  const mem = openSync(`/proc/${pid}/mem`, "r");
  try {
    return readFileSync(`/proc/${pid}/maps`, "utf8")
      .split("\n")
      .some((line) => {
        const [, from = "0", to = "0"] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
        const chunk = Buffer.alloc(Math.min(Number.parseInt(to, 16) - Number.parseInt(from, 16), CHUNK_BYTES));
        try {
          return readSync(mem, chunk, 0, chunk.length, Number.parseInt(from, 16)) > 0 && chunk.includes(bytes);
        } catch {
          return false; // pages that cannot be read
        }
      });
  } finally {
    closeSync(mem);
  }
}
