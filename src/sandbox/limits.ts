// Turns the limits that were asked for into the ones that hold, with every default filled in. Pure.
// Invariant: nothing is clamped in silence: a limit that cannot hold is refused with its name and bounds.

import { CorralError } from "../api/errors.ts";
import {
  DEFAULT_DISK_BYTES,
  DEFAULT_INODES,
  DEFAULT_MEMORY_BYTES,
  DEFAULT_OPEN_FILES,
  DEFAULT_PIDS,
  MIN_MEMORY_BYTES,
} from "../api/limits.ts";
import type { SandboxLimits } from "../api/sandbox.ts";

export interface HeldLimits {
  readonly memoryBytes: number;
  readonly cpus: number | null;
  readonly pids: number;
  readonly openFiles: number;
  readonly diskBytes: number;
  readonly inodes: number;
}

/** PID 1, a shell and what it runs. */
const MIN_PIDS = 4;
const MIN_OPEN_FILES = 16;
const MIN_CPUS = 0.01;

export function heldLimits(asked: SandboxLimits = {}): HeldLimits {
  if (asked.cpus !== undefined && !(asked.cpus >= MIN_CPUS && Number.isFinite(asked.cpus)))
    refuse("cpus", asked.cpus, `a number of cores, at least ${MIN_CPUS}`);
  return {
    memoryBytes: whole("memoryBytes", asked.memoryBytes, DEFAULT_MEMORY_BYTES, MIN_MEMORY_BYTES),
    cpus: asked.cpus ?? null,
    pids: whole("pids", asked.pids, DEFAULT_PIDS, MIN_PIDS),
    openFiles: whole("openFiles", asked.openFiles, DEFAULT_OPEN_FILES, MIN_OPEN_FILES),
    diskBytes: whole("diskBytes", asked.diskBytes, DEFAULT_DISK_BYTES, 1),
    inodes: whole("inodes", asked.inodes, DEFAULT_INODES, 1),
  };
}

function whole(name: keyof SandboxLimits, value: number | undefined, byDefault: number, least: number): number {
  if (value === undefined) return byDefault;
  if (!Number.isSafeInteger(value) || value < least) refuse(name, value, `a whole number, at least ${least}`);
  return value;
}

function refuse(name: string, value: number, expectation: string): never {
  throw new CorralError("request_invalid", `limits.${name}: expected ${expectation}, got ${value}`);
}
