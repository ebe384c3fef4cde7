// Sandboxes that are paused without their processes, as clients of this directory see them: made again, destroyed or given up.
// It knows no owners. Invariant: what is resumed has the delta, policy, limits and environment it had, and fails back into its pause.

import { readdirSync } from "node:fs";
import type { PausedSandboxes } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import { readKept, writeKept } from "../view/kept.ts";
import type { RunTool } from "../view/view.ts";
import { type DataDir, withReserve } from "./data-dir.ts";
import { isPaused, readPaused, removePaused } from "./paused-record.ts";
import { adoptDelta, dropStale, removeDelta } from "./settle.ts";

export interface LocalPausedOptions {
  readonly data: DataDir;
  readonly openTool: () => Promise<RunTool>;
  /** Whether a sandbox of this process lives, or is being made. */
  readonly isLive: (id: string) => boolean;
  /** Makes a sandbox over the delta that its id names. */
  readonly remake: (request: CreateRequest) => Promise<Sandbox>;
}

export class LocalPaused implements PausedSandboxes {
  readonly #options: LocalPausedOptions;

  constructor(options: LocalPausedOptions) {
    this.#options = options;
  }

  list(): Promise<readonly string[]> {
    const { data, isLive } = this.#options;
    const ids = readdirSync(data.deltas).filter((id) => isId("sandbox", id) && isPaused(data.deltas, id) && !isLive(id));
    return Promise.resolve(ids);
  }

  async resume(id: string): Promise<Sandbox> {
    const { data, remake, openTool } = this.#options;
    this.#demandEnded(id);
    const request = readPaused(data.deltas, id);
    await dropStale(await openTool(), data, id);
    const sandbox = await remake(request);
    removePaused(data.deltas, id);
    return sandbox;
  }

  async destroy(id: string): Promise<void> {
    const { data, openTool } = this.#options;
    this.#demandEnded(id);
    if (!isPaused(data.deltas, id)) return;
    const tool = await openTool();
    if (readPaused(data.deltas, id).delta !== "keep") return await removeDelta(tool, data, id);
    await dropStale(tool, data, id);
    withReserve(data, () => writeKept(data.deltas, { ...readKept(data.deltas, id), kept: true }));
    removePaused(data.deltas, id);
  }

  async abandon(id: string): Promise<void> {
    const { data, openTool } = this.#options;
    this.#demandEnded(id);
    removePaused(data.deltas, id);
    await adoptDelta(await openTool(), data, id);
  }

  #demandEnded(id: string): void {
    if (this.#options.isLive(id)) throw new CorralError("sandbox_state", `the sandbox ${id} still has its processes`);
  }
}
