// Snapshots of sandboxes of one data directory: taken, made into sandboxes, put back, removed. Memory is no part of one.
// It knows no owners. Invariant: what a delta or a snapshot refers to is there at every moment, whoever is killed: references come before
// what needs them and go after it.

import { existsSync, rmSync } from "node:fs";
import type { SnapshotOverrides, Snapshots, SnapshotSize } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import { MAX_LAYERS } from "../api/limits.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import { deltaDir, readKept, writeKept } from "../view/kept.ts";
import { addLayer, isMeasured, layerTree, letGo, referTo, sizeOf, staleDrafts, staleLayers, writeLayerSize } from "../view/layers.ts";
import type { RunTool } from "../view/view.ts";
import type { Origin } from "./create.ts";
import type { DataDir } from "./data-dir.ts";
import { isPaused, readPaused } from "./paused-record.ts";
import type { LocalSandbox } from "./sandbox.ts";
import { dropStale, isEmptyDir } from "./settle.ts";
import {
  beginSnapshot,
  endSnapshot,
  hasSnapshot,
  isLeftOver,
  isPassing,
  listSnapshots,
  readSnapshot,
  removeSnapshot,
  type SnapshotRecord,
} from "./snapshot-record.ts";
import { measure } from "./watcher.ts";

export interface LocalSnapshotsOptions {
  readonly data: DataDir;
  readonly openTool: () => Promise<RunTool>;
  /** A sandbox of this process that lives. */
  readonly live: (id: string) => LocalSandbox | undefined;
  readonly make: (request: CreateRequest, origin: Origin) => Promise<Sandbox>;
}

export class LocalSnapshots implements Snapshots {
  readonly #options: LocalSnapshotsOptions;

  constructor(options: LocalSnapshotsOptions) {
    this.#options = options;
  }

  async take(sandboxId: string, snapshotId: string, { passing = false }: { readonly passing?: boolean } = {}): Promise<SnapshotSize> {
    const { data, live } = this.#options;
    const sandbox = live(sandboxId);
    if (sandbox === undefined && !isPaused(data.deltas, sandboxId))
      throw new CorralError("sandbox_not_found", `no sandbox ${JSON.stringify(sandboxId)} lives or is paused here`);
    beginSnapshot(data.snapshots, snapshotId, data.deltas, sandboxId);
    try {
      const taken = sandbox === undefined ? await this.#moved(sandboxId, snapshotId) : await this.#copied(sandbox, snapshotId);
      const size = await this.#measured(taken.layers);
      endSnapshot(data.snapshots, snapshotId, { ...taken, sandboxId }, passing);
      return size;
    } catch (error) {
      removeSnapshot(data.snapshots, snapshotId);
      await this.#letGoOf((owner) => owner === snapshotId);
      throw error;
    }
  }

  list(): Promise<readonly string[]> {
    const { snapshots } = this.#options.data;
    return Promise.resolve(listSnapshots(snapshots).filter((id) => !isPassing(snapshots, id)));
  }

  async create(snapshotId: string, { env, limits, ...more }: SnapshotOverrides): Promise<Sandbox> {
    const { data, make } = this.#options;
    const snapshot = readSnapshot(data.snapshots, snapshotId);
    const { id: _, ...asked } = snapshot.request;
    const request: CreateRequest = {
      ...asked,
      ...more,
      ...(limits === undefined ? {} : { limits: { ...snapshot.request.limits, ...limits } }),
      ...(env === undefined ? {} : { env: { ...snapshot.request.env, ...env } }),
    };
    return await make(request, { from: "snapshot", snapshotId, snapshot });
  }

  async restore(sandboxId: string, snapshotId: string): Promise<void> {
    const { data, openTool } = this.#options;
    const snapshot = readSnapshot(data.snapshots, snapshotId);
    if (!isPaused(data.deltas, sandboxId))
      throw new CorralError("sandbox_state", `the sandbox ${sandboxId} is not paused without its processes`);
    const record = readKept(data.deltas, sandboxId);
    // The delta of another sandbox was measured against another walk of the codebase.
    if (snapshot.sandboxId !== sandboxId)
      throw new CorralError("request_invalid", "snapshotId: it is of another sandbox; make a new sandbox from it instead");
    const tool = await openTool();
    await dropStale(tool, data, sandboxId);
    referTo(data.deltas, snapshot.layers, sandboxId);
    writeKept(data.deltas, { ...record, layers: snapshot.layers, stale: true });
    await dropStale(tool, data, sandboxId);
    await letGo(
      tool,
      data.deltas,
      (record.layers ?? []).filter((layer) => !snapshot.layers.includes(layer)),
      sandboxId,
    );
  }

  async remove(snapshotId: string): Promise<void> {
    const { data, openTool } = this.#options;
    if (!hasSnapshot(data.snapshots, snapshotId)) return;
    const { layers } = readSnapshot(data.snapshots, snapshotId);
    removeSnapshot(data.snapshots, snapshotId);
    if (layers.length > 0) await letGo(await openTool(), data.deltas, layers, snapshotId);
  }

  /** Clears what a process that was killed left. */
  async sweep(): Promise<void> {
    const { data } = this.#options;
    for (const id of listSnapshots(data.snapshots)) if (isLeftOver(data.snapshots, id)) removeSnapshot(data.snapshots, id);
    const isThere = (id: string): boolean =>
      isId("snapshot", id) ? listSnapshots(data.snapshots).includes(id) : isId("sandbox", id) && existsSync(deltaDir(data.deltas, id).path);
    for (const draft of staleDrafts(data.deltas, isThere)) rmSync(draft, { recursive: true });
    await this.#letGoOf((id) => !isThere(id));
  }

  async #letGoOf(isGone: (owner: string) => boolean): Promise<void> {
    const { data, openTool } = this.#options;
    for (const { layer, owner } of staleLayers(data.deltas, (id) => !isGone(id)))
      await letGo(await openTool(), data.deltas, [layer], owner);
  }

  /** What a layer takes is measured once, when nothing waits for it. */
  async #measured(layers: readonly string[]): Promise<SnapshotSize> {
    const { data, openTool } = this.#options;
    for (const layer of layers.filter((each) => !isMeasured(data.deltas, each))) {
      const tree = layerTree(data.deltas, layer);
      const size = await measure(await openTool(), tree, { bytes: Number.MAX_SAFE_INTEGER, entries: Number.MAX_SAFE_INTEGER });
      if (size !== undefined) writeLayerSize(data.deltas, layer, size);
    }
    return sizeOf(data.deltas, layers);
  }

  /** Of one that lives: its files are copied while it stands still. */
  async #copied(sandbox: LocalSandbox, snapshotId: string): Promise<Omit<SnapshotRecord, "sandboxId">> {
    const { data, openTool } = this.#options;
    const tool = await openTool();
    const { request } = sandbox;
    const { upper } = deltaDir(data.deltas, sandbox.id);
    return await sandbox.standStill(async () => {
      const layers = [...(readKept(data.deltas, sandbox.id).layers ?? [])];
      if (!isEmptyDir(upper)) {
        demandRoom(layers);
        const layer = addLayer(data.deltas, snapshotId);
        await tool(["layer", "copy", upper, layerTree(data.deltas, layer)]).done;
        layers.unshift(layer);
      }
      referTo(data.deltas, layers, snapshotId);
      return { request, layers };
    });
  }

  /** Of one without processes: what it wrote becomes a layer of both. */
  async #moved(sandboxId: string, snapshotId: string): Promise<Omit<SnapshotRecord, "sandboxId">> {
    const { data, openTool } = this.#options;
    const request = readPaused(data.deltas, sandboxId);
    const tool = await openTool();
    await dropStale(tool, data, sandboxId);
    const delta = readKept(data.deltas, sandboxId);
    const layers = [...(delta.layers ?? [])];
    const { upper } = deltaDir(data.deltas, sandboxId);
    if (!isEmptyDir(upper)) {
      demandRoom(layers);
      const layer = addLayer(data.deltas, sandboxId);
      layers.unshift(layer);
      writeKept(data.deltas, { ...delta, layers });
      await tool(["layer", "move", upper, layerTree(data.deltas, layer)]).done;
    }
    referTo(data.deltas, layers, snapshotId);
    return { request, layers };
  }
}

function demandRoom(layers: readonly string[]): void {
  if (layers.length >= MAX_LAYERS)
    throw new CorralError("limit_reached", `it stands on ${MAX_LAYERS} snapshots, one on the other, which is the limit`);
}
