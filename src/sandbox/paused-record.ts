// What making a paused sandbox again takes, in a file beside its delta, so that it outlives this process and the machine. Of one that is
// frozen the same is written: should its processes die, it is still paused. Not the state that an owner sees.
// Invariant: a delta with this file is neither adopted nor removed by a start.

import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import type { CreateRequest } from "../api/sandbox.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import { deltaDir } from "../view/kept.ts";

const VERSION = 1;

function pausedFile(deltas: string, id: string): string {
  return join(deltaDir(deltas, id).path, "paused.json");
}

export function isPaused(deltas: string, id: string): boolean {
  return existsSync(pausedFile(deltas, id));
}

/** On disk when it returns. It holds the environment that was asked for, so it is for the owner of the directory alone. */
export function writePaused(deltas: string, id: string, request: CreateRequest): void {
  writeFileAtomic(pausedFile(deltas, id), JSON.stringify({ version: VERSION, request }), { mode: 0o600, sync: true });
}

export function removePaused(deltas: string, id: string): void {
  rmSync(pausedFile(deltas, id), { force: true });
}

/** Throws `sandbox_not_found`, or `delta_malformed`. */
export function readPaused(deltas: string, id: string): CreateRequest {
  let text: string;
  try {
    text = readFileSync(pausedFile(deltas, id), "utf8");
  } catch (cause) {
    throw new CorralError("sandbox_not_found", `no sandbox ${JSON.stringify(id)} is paused here`, { cause });
  }
  try {
    const { version, request } = JSON.parse(text) as { readonly version: number; readonly request: CreateRequest };
    if (version === VERSION) return { ...request, id };
  } catch {
    // Told below, like a version that is not known.
  }
  throw new CorralError("delta_malformed", `paused.json of the delta of ${id} is not one that this version of Corral wrote`);
}
