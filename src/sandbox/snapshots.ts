// Snapshots of sandboxes of one data directory: taken, made into sandboxes, put back, removed. Memory is no part of one.
// It knows no owners. Invariant: what a delta or a snapshot refers to is there at every moment, whoever is killed: references come before
// what needs them and go after it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SnapshotOverrides, Snapshots } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import { MAX_LAYERS } from "../api/limits.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import { identify, isAlive } from "../base/process-identity.ts";
import { deltaDir, type KeptRecord, readKept, writeKept } from "../view/kept.ts";
import { addLayer, layerTree, letGo, referTo, staleLayers } from "../view/layers.ts";
import type { RunTool } from "../view/view.ts";
import type { Origin } from "./create.ts";
import type { DataDir } from "./data-dir.ts";
import { isPaused, readPaused } from "./paused-record.ts";
import type { LocalSandbox } from "./sandbox.ts";
import { isEmptyDir } from "./settle.ts";
import { hasSnapshot, listSnapshots, readSnapshot, removeSnapshot, type SnapshotRecord, writeSnapshot } from "./snapshot-record.ts";

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

  async take(sandboxId: string, snapshotId: string, { passing = false }: { readonly passing?: boolean } = {}): Promise<void> {
    const { data, live } = this.#options;
    const sandbox = live(sandboxId);
    if (sandbox === undefined && !isPaused(data.deltas, sandboxId))
      throw new CorralError("sandbox_not_found", `no sandbox ${JSON.stringify(sandboxId)} lives or is paused here`);
    const taken = sandbox === undefined ? await this.#moved(sandboxId, snapshotId) : await this.#copied(sandbox, snapshotId);
    const maker = passing ? identify(process.pid) : undefined;
    writeSnapshot(data.snapshots, snapshotId, data.deltas, { ...taken, sandboxId, ...(maker === undefined ? {} : { maker }) });
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
    const { path, upper } = deltaDir(data.deltas, sandboxId);
    referTo(data.deltas, snapshot.layers, sandboxId);
    const aside = join(path, "restored-away");
    await tool(["remove", aside]).done;
    if (existsSync(upper)) await tool(["layer", "move", upper, aside]).done;
    writeKept(data.deltas, { ...record, layers: snapshot.layers });
    await tool(["remove", aside]).done;
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
    const { data, openTool } = this.#options;
    for (const id of listSnapshots(data.snapshots)) {
      const maker = hasSnapshot(data.snapshots, id) ? this.#makerOf(id) : undefined;
      if (maker !== undefined && !isAlive(maker)) await this.remove(id);
    }
    const isOwner = (id: string): boolean =>
      isId("snapshot", id) ? hasSnapshot(data.snapshots, id) : isId("sandbox", id) && existsSync(deltaDir(data.deltas, id).path);
    for (const { layer, owner } of staleLayers(data.deltas, isOwner)) await letGo(await openTool(), data.deltas, [layer], owner);
  }

  #makerOf(id: string): SnapshotRecord["maker"] {
    try {
      return readSnapshot(this.#options.data.snapshots, id).maker;
    } catch {
      return undefined; // a damaged one is told to whoever asks for it
    }
  }

  /** Of one that lives: its files are copied while it stands still. */
  async #copied(sandbox: LocalSandbox, snapshotId: string): Promise<Omit<SnapshotRecord, "sandboxId">> {
    const { data, openTool } = this.#options;
    const tool = await openTool();
    const { request } = sandbox;
    const { upper } = deltaDir(data.deltas, sandbox.id);
    return await sandbox.standStill(async () => {
      const delta = readKept(data.deltas, sandbox.id);
      const layers = [...(delta.layers ?? [])];
      if (!isEmptyDir(upper)) {
        demandRoom(layers);
        const layer = addLayer(data.deltas, snapshotId);
        try {
          await tool(["layer", "copy", upper, layerTree(data.deltas, layer)]).done;
        } catch (error) {
          await letGo(tool, data.deltas, [layer], snapshotId);
          throw error;
        }
        layers.unshift(layer);
      }
      referTo(data.deltas, layers, snapshotId);
      return { request, delta, layers };
    });
  }

  /** Of one without processes: what it wrote becomes a layer of both. */
  async #moved(sandboxId: string, snapshotId: string): Promise<Omit<SnapshotRecord, "sandboxId">> {
    const { data, openTool } = this.#options;
    const request = readPaused(data.deltas, sandboxId);
    let delta: KeptRecord = readKept(data.deltas, sandboxId);
    const { upper } = deltaDir(data.deltas, sandboxId);
    if (!isEmptyDir(upper)) {
      demandRoom(delta.layers ?? []);
      const layer = addLayer(data.deltas, sandboxId);
      delta = { ...delta, layers: [layer, ...(delta.layers ?? [])] };
      writeKept(data.deltas, delta);
      const tool = await openTool();
      await tool(["layer", "move", upper, layerTree(data.deltas, layer)]).done;
    }
    const { layers = [] } = delta;
    referTo(data.deltas, layers, snapshotId);
    return { request, delta, layers };
  }
}

function demandRoom(layers: readonly string[]): void {
  if (layers.length >= MAX_LAYERS)
    throw new CorralError("limit_reached", `it stands on ${MAX_LAYERS} snapshots, one on the other, which is the limit`);
}
