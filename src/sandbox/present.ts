// A container that stands, as a sandbox: what watches over it and what goes when it ends. Whether it was just made or taken over from an
// earlier process makes no difference here. Invariant: the journal goes last, after everything that it would lead to.

import type { CreateRequest, SandboxInfo } from "../api/sandbox.ts";
import type { Clock } from "../base/clock.ts";
import type { Container, Runtime } from "../runtime/runtime.ts";
import { deltaDir, type KeptRecord, writeKept } from "../view/kept.ts";
import { letGo, sizeOf } from "../view/layers.ts";
import { type DataDir, withReserve } from "./data-dir.ts";
import { isNetworked, type SandboxDoors } from "./doors.ts";
import { removeJournal } from "./journal.ts";
import { heldLimits } from "./limits.ts";
import { removePaused, writePaused } from "./paused-record.ts";
import { LocalSandbox } from "./sandbox.ts";
import type { QuotaWatcher } from "./watcher.ts";

/** What a sandbox stands in: the part of a workshop that outlives its making. */
export interface Grounds {
  readonly data: DataDir;
  readonly clock: Clock;
  readonly runtime: Runtime;
  readonly watcher: QuotaWatcher;
  /** Absent: the usual ones. */
  readonly pythonModules?: readonly string[];
  /** Absent: no sandbox has a network. */
  readonly doors?: SandboxDoors;
  /** Called when a sandbox of ours is no more. */
  readonly onGone: (id: string) => void;
}

export interface LeftRoom {
  readonly diskBytes: number;
  readonly inodes: number;
}

export interface Standing {
  readonly container: Container;
  readonly request: CreateRequest;
  readonly info: Omit<SandboxInfo, "state">;
  /** Of its delta. */
  readonly record: KeptRecord;
  readonly releaseView: () => void;
}

/** What is left of its limits beside what lies frozen below its delta; below 1: nothing. */
export function roomOf({ deltas }: DataDir, { limits }: CreateRequest, layers: readonly string[] = []): LeftRoom {
  const { diskBytes, inodes } = heldLimits(limits);
  const { bytes, entries } = sizeOf(deltas, layers);
  return { diskBytes: diskBytes - bytes, inodes: inodes - entries };
}

export function present(grounds: Grounds, { container, request, info, record, releaseView }: Standing): LocalSandbox {
  const { id } = container;
  const delta = deltaDir(grounds.data.deltas, id);
  const limits = heldLimits(request.limits);
  const { diskBytes, inodes } = roomOf(grounds.data, request, record.layers);
  const sandbox = new LocalSandbox({
    container,
    request,
    clock: grounds.clock,
    watcher: grounds.watcher,
    limits,
    pythonModules: grounds.pythonModules,
    info,
    scrub: request.delta === "keep" ? [] : [delta.path],
    hold: (paused) => (paused ? writePaused(grounds.data.deltas, id, request) : removePaused(grounds.data.deltas, id)),
    release: async (end) => {
      releaseView();
      if (isNetworked(request)) await grounds.doors?.close(id);
      const keep = { ...record, kept: true, cutOff: end === "lost" };
      const isKept = end === "lost" || (end === "destroyed" && request.delta === "keep");
      if (end !== "paused") removePaused(grounds.data.deltas, id);
      if (isKept) withReserve(grounds.data, () => writeKept(grounds.data.deltas, keep));
      // Its tree is gone: it stands on nothing any more.
      else if (end === "destroyed" && record.layers !== undefined)
        await letGo(grounds.runtime.tool, grounds.data.deltas, record.layers, id).catch(() => undefined); // else the next start does
      await removeJournal(grounds.data.journal, id);
      grounds.onGone(id);
    },
  });
  const onRunaway = (limit: Parameters<LocalSandbox["runaway"]>[0]): void => sandbox.runaway(limit);
  const room = { diskBytes: Math.max(1, diskBytes), inodes: Math.max(1, inodes) };
  grounds.watcher.add({ id, dir: delta.upper, ...room, tool: grounds.runtime.tool, onRunaway });
  return sandbox;
}
