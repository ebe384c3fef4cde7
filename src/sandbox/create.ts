// Makes one sandbox: journal first, then the view, the record of its delta, the container. The order is the crash argument: whatever is
// in the kernel or on disk was written down before, so a kill at any line leaves nothing that the next start does not find.
// Not the choice of runtime and engine: that is choose.ts's. Invariant: a create that fails leaves nothing behind.

import { realpathSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import type { CreateRequest, EngineName, SandboxInfo } from "../api/sandbox.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { Container } from "../runtime/runtime.ts";
import { type DeltaDir, deltaDir, type KeptRecord, makeKept, readKept } from "../view/kept.ts";
import { layerTrees, letGo, referTo } from "../view/layers.ts";
import type { PreparedView } from "../view/kernel.ts";
import type { StoredTree } from "../view/stored.ts";
import { refuseOverlap } from "./data-dir.ts";
import { type Door, isNetworked } from "./doors.ts";
import { appendMade, type JournalEntry, removeJournal, writeJournal } from "./journal.ts";
import { type HeldLimits, heldLimits } from "./limits.ts";
import { present, roomOf } from "./present.ts";
import type { LocalSandbox } from "./sandbox.ts";
import { carryFrom, type SnapshotRecord } from "./snapshot-record.ts";
import type { TemplatePlan } from "./template.ts";
import type { Workshop } from "./workshop.ts";
import { endWarm, kindOf, planOf, type Warm } from "./warm.ts";

/** It travels with each command then, whose own must fit beside it. */
const MAX_LATE_ENV = 64 * 1024;

export interface Choice {
  readonly engine: EngineName;
  readonly reasons: readonly string[];
  /** Stages that came before, ms. */
  readonly timings: Readonly<Record<string, number>>;
}

interface Draft {
  readonly id: string;
  /** Directory that must not be seen but through the view. */
  readonly dir: string;
  readonly base: string | StoredTree;
  readonly request: CreateRequest;
  readonly limits: HeldLimits;
  readonly record: KeptRecord;
  readonly delta: DeltaDir;
  readonly journalFile: string;
}

/** Over what delta: a new one (`warm`: by what was started ahead under the request's id, which is ended when it does not fit), that of a paused sandbox (which is then as it was, should this fail), or one on the layers of a snapshot. */
export type Origin =
  | { readonly from: "request" }
  | { readonly from: "warm"; readonly warm: Warm }
  | { readonly from: "pause" }
  | { readonly from: "snapshot"; readonly snapshotId: string; readonly snapshot: SnapshotRecord };

export async function createSandbox(
  shop: Workshop,
  request: CreateRequest,
  choice: Choice,
  origin: Origin = { from: "request" },
): Promise<LocalSandbox> {
  const timings: Record<string, number> = { ...choice.timings };
  const stage = stopwatch(shop.clock, timings);
  const draft = await writtenDown(shop, request, origin);
  stage("journalMs");
  let prepared: PreparedView | undefined;
  let plan: TemplatePlan | undefined;
  try {
    // The walk runs in a process of its own; the template is planned meanwhile.
    const fixed = draft.base === shop.data.empty;
    const preparing = shop.view.prepare({ base: draft.base, fixed, policy: request.policy, presetDirs: request.policy.dirs ?? [] });
    preparing.then((view) => (prepared = view)).catch(() => undefined); // awaited below; a failing plan must not lose it
    plan = await planned(shop, draft, preparing);
    stage("templateMs");
    prepared = await preparing;
    timings["walkMs"] = prepared.stats.walkMs;
    timings["maskMs"] = prepared.stats.maskMs;
    keepRecord(shop, draft, origin, prepared);
    stage("viewMs");
    const made = { shop, draft, choice, prepared };
    if (origin.from === "warm" && (await bind({ shop, draft, plan, prepared }, origin.warm))) {
      stage("bindMs");
      plan.hold?.release(); // its own holds the same
      plan = origin.warm.plan;
      return await finish({ ...made, plan, container: origin.warm.container, timings, late: true });
    }
    const container = await contain(shop, draft, plan, prepared);
    stage("containMs");
    // The container's own total is what `containMs` says; its parts are told beside it.
    const { createMs: _, ...parts } = container.timings;
    return await finish({ ...made, plan, container, timings: { ...timings, ...parts } });
  } catch (error) {
    prepared?.release();
    plan?.hold?.release();
    await shop.doors?.close(draft.id).catch(() => undefined);
    if (origin.from === "warm") await endWarm(shop, origin.warm).catch(() => undefined); // its journal leads the next start to it
    if (origin.from === "pause") await removeJournal(shop.data.journal, draft.id);
    else await undo(shop, draft);
    throw asDiskFull(error);
  }
}

async function planned(shop: Workshop, draft: Draft, preparing: Promise<PreparedView>): Promise<TemplatePlan> {
  const { dir, request, limits } = draft;
  try {
    return await planOf(shop, { template: request.template, codebaseDir: dir, memoryBytes: limits.memoryBytes });
  } catch (error) {
    await preparing.catch(() => undefined); // the plan's error is the one to tell; what was prepared is released
    throw error;
  }
}

function stopwatch(clock: Clock, timings: Record<string, number>): (stage: string) => void {
  let last = clock.monotonicMs();
  return (stage) => {
    const now = clock.monotonicMs();
    timings[stage] = now - last;
    last = now;
  };
}

/** One that is made again keeps the record of the codebase that it was first made over, as one from a snapshot has it: commit judges by it. */
function keepRecord(shop: Workshop, { record, request }: Draft, origin: Origin, prepared: PreparedView): void {
  if (origin.from === "pause") return;
  const { deltas, snapshots } = shop.data;
  if (origin.from !== "snapshot") {
    makeKept(deltas, record, prepared.manifestFile);
    return;
  }
  const { diskBytes, inodes } = roomOf(shop.data, request, origin.snapshot.layers);
  if (diskBytes < 1 || inodes < 1)
    throw new CorralError("limit_reached", "the snapshot holds as much as diskBytes or inodes allow; ask for a larger limit");
  makeKept(deltas, record, undefined);
  carryFrom(snapshots, origin.snapshotId, deltas, record.sandboxId);
  referTo(deltas, origin.snapshot.layers, record.sandboxId);
}

async function writtenDown(shop: Workshop, request: CreateRequest, origin: Origin): Promise<Draft> {
  try {
    return writeDown(shop, request, origin);
  } catch (error) {
    if (origin.from === "warm") await endWarm(shop, origin.warm);
    throw error;
  }
}

/** False: it does not fit what was asked, or it is no more; then it is ended, and another is made under its id. */
async function bind({ shop, draft, plan, prepared }: Pick<Made, "shop" | "draft" | "plan" | "prepared">, warm: Warm): Promise<boolean> {
  const { upper, work } = draft.delta;
  const { env = {} } = draft.request;
  try {
    if (kindOf(shop, plan, draft.limits) === warm.kind && !isNetworked(draft.request) && JSON.stringify(env).length <= MAX_LATE_ENV) {
      await warm.container.bind({ mount: prepared.mount({ upper, work }), env });
      return true;
    }
  } catch {
    // A cold one is made instead, and tells what is wrong with the request if that is it.
  }
  await endWarm(shop, warm);
  writeJournal(shop.data.journal, journalEntry(shop, { id: draft.id, createdAt: draft.record.createdAt, request: draft.request }));
  return false;
}

/** Checks what was asked and writes down what is about to be made. */
function writeDown(shop: Workshop, request: CreateRequest, origin: Origin): Draft {
  const limits = heldLimits(request.limits);
  const { dir, base } = baseOf(shop, request);
  const id = request.id ?? `${ID_PREFIX.sandbox}${randomText(ID_BODY_LENGTH)}`;
  const before = origin.from === "pause" ? readKept(shop.data.deltas, id) : undefined;
  const createdAt = before?.createdAt ?? new Date(shop.clock.wallMs()).toISOString();
  const journalFile =
    origin.from === "warm" ? origin.warm.journalFile : writeJournal(shop.data.journal, journalEntry(shop, { id, createdAt, request }));
  const record: KeptRecord = before ?? {
    sandboxId: id,
    codebaseDir: typeof base === "string" ? base : "",
    ...(request.stored === undefined ? {} : { stored: request.stored }),
    createdAt,
    cutOff: false,
    policy: request.policy,
    trusted: shop.runtime.ids.trusted,
    kept: false,
    ...(origin.from === "snapshot" ? { layers: origin.snapshot.layers } : {}),
  };
  // The marks and owners of its files are those of one kind of runtime.
  if (record.trusted !== shop.runtime.ids.trusted)
    throw new CorralError("runtime_unavailable", "it was made by another user of this machine, whose files this one's runtime cannot show");
  return { id, dir, base, request, limits, record, journalFile, delta: deltaDir(shop.data.deltas, id) };
}

function journalEntry(
  { runtime }: Workshop,
  { id, createdAt, request }: { id: string; createdAt: string; request: CreateRequest },
): JournalEntry {
  const { keeper: maker, name } = runtime;
  return { version: 2, id, maker, runtime: name, createdAt, delta: request.delta ?? "ephemeral" };
}

function baseOf({ data, stored }: Workshop, request: CreateRequest): Pick<Draft, "dir" | "base"> {
  if (request.stored !== undefined) {
    if (stored === undefined) throw new CorralError("codebase_not_found", "this process has no stored codebases; give it a directory");
    return { dir: data.empty, base: stored.tree(request.stored) };
  }
  const dir = request.codebaseDir === undefined ? data.empty : located(request.codebaseDir);
  if (request.codebaseDir !== undefined) refuseOverlap(data, dir);
  return { dir, base: dir };
}

/** The codebase's real path. */
function located(dir: string): string {
  let real: string;
  try {
    real = realpathSync(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new CorralError("codebase_not_found", `there is no directory ${dir}`, { cause: error });
    throw new CorralError("codebase_unreadable", `${dir} cannot be looked at (${code ?? "unknown"})`, { cause: error });
  }
  if (!statSync(real).isDirectory())
    throw new CorralError("codebase_unreadable", `${dir} is not a directory; name the directory that holds the code`);
  return real;
}

function asDiskFull(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new CorralError("disk_full", "the disk that holds the data directory is full; free some space or use --data DIR", {
    cause: error,
  });
}

async function contain(shop: Workshop, draft: Draft, plan: TemplatePlan, prepared: PreparedView): Promise<Container> {
  const { memoryBytes, cpus, pids, openFiles } = draft.limits;
  const door = await doorOf(shop, draft);
  return await shop.runtime.create({
    id: draft.id,
    mounts: [
      ...plan.mounts,
      prepared.mount({ upper: draft.delta.upper, work: draft.delta.work, frozen: layerTrees(shop.data.deltas, draft.record.layers ?? []) }),
      ...(door?.mounts ?? []),
    ],
    hostname: plan.hostname,
    limits: { memoryBytes, cpus, pids, openFiles },
    env: { ...plan.env, ...door?.env, ...draft.request.env },
    journalFile: draft.journalFile,
    weaken: shop.weaken,
    ...(door === undefined ? {} : { network: { socket: door.socket } }),
  });
}

async function doorOf({ doors }: Workshop, { id, request }: Draft): Promise<Door | undefined> {
  if (!isNetworked(request)) return undefined;
  if (doors === undefined)
    throw new CorralError("egress_unavailable", "whoever opened this corral gave it no egress proxy; make the sandbox without a network");
  return await doors.open(id, request.network ?? "none");
}

interface Made {
  readonly shop: Workshop;
  readonly draft: Draft;
  readonly choice: Choice;
  readonly plan: TemplatePlan;
  readonly prepared: PreparedView;
  readonly container: Container;
  readonly timings: Readonly<Record<string, number>>;
  readonly late?: true;
}

async function finish({ shop, draft, choice, plan, prepared, container, timings, late }: Made): Promise<LocalSandbox> {
  const { id, request } = draft;
  const info: Omit<SandboxInfo, "state"> = {
    id,
    runtime: shop.runtime.name,
    engine: choice.engine,
    reasons: choice.reasons,
    weakenings: [...new Set([...container.weakenings, ...prepared.remarks, "quota-watched"])],
    toolDirs: plan.toolDirs,
    timings,
    ...(late === undefined ? {} : { source: "pool" }),
  };
  const holds = plan.hold === undefined ? [prepared] : [prepared, plan.hold];
  try {
    // From this line on the next process goes on with it.
    if (shop.lasting)
      appendMade(shop.data.journal, id, { request, info, uses: holds.map(({ use }) => use), ...(late === undefined ? {} : { late }) });
  } catch (error) {
    await container.destroy();
    throw error;
  }
  return present(shop, { container, request, info, record: draft.record, releaseView: () => holds.forEach((hold) => hold.release()) });
}

/** The delta holds nothing: no command ever ran. The journal goes last. */
async function undo(shop: Workshop, draft: Draft): Promise<void> {
  try {
    await shop.runtime.tool(["remove", draft.delta.path]).done;
  } catch {
    // Without a spawner: what is left then belongs to us, or to the reaper.
    await rm(draft.delta.path, { recursive: true, force: true });
  }
  const { layers = [] } = draft.record;
  // Without a spawner a later start finds the reference without its sandbox.
  if (layers.length > 0) await letGo(shop.runtime.tool, shop.data.deltas, layers, draft.id).catch(() => undefined);
  await removeJournal(shop.data.journal, draft.id);
}
