// Pause and resume of sandboxes that this server holds: the row first, by compare-and-set, then the kernel; and which paused ones keep
// their processes. Not who may ask: that is sandboxes.ts's. Invariant: a row that says paused has a delta that can be resumed from,
// whoever dies when; processes that stand still are bounded in number, time and by the memory that they would keep from others.

import { freemem, totalmem } from "node:os";
import { CorralError, errorCode } from "../api/errors.ts";
import {
  DEFAULT_SANDBOX_MS,
  MAX_FROZEN_MS,
  MAX_FROZEN_SANDBOXES,
  MAX_PAUSED_MS,
  MAX_SANDBOX_MS,
  MIN_FREE_MEMORY_SHARE,
} from "../api/limits.ts";
import type { Sandbox } from "../api/sandbox.ts";
import type { SandboxResource } from "../api/server.ts";
import type { SandboxRecord } from "../store/sandboxes.ts";
import type { Held, HeldSandbox } from "./held.ts";
import type { FrozenBounds, ServiceParts } from "./parts.ts";
import { tell } from "./tell.ts";

/** What the store keeps of a sandbox beside its columns. */
export type Info = Pick<SandboxResource, "info" | "reason">;

export interface PausingParts extends ServiceParts {
  readonly held: Held;
}

const BOUNDS: FrozenBounds = { most: MAX_FROZEN_SANDBOXES, longestMs: MAX_FROZEN_MS, leastFreeShare: MIN_FREE_MEMORY_SHARE };

interface PauseRequest {
  readonly memory: boolean;
  /** Only when its end has come. */
  readonly ifEnded?: boolean;
}

export class Pausing {
  readonly #parts: PausingParts;

  constructor(parts: PausingParts) {
    this.#parts = parts;
  }

  /** False when it was not paused because its end had not come. */
  pause(id: string, request: PauseRequest): Promise<boolean> {
    return this.#parts.held.inTurn(id, () => this.#pause(id, request));
  }

  /** Its processes, if they can stand still, else its delta. */
  async pauseAtEnd(id: string): Promise<void> {
    try {
      await this.pause(id, { memory: true, ifEnded: true });
    } catch (error) {
      if (!["runtime_unavailable", "sandbox_state"].includes(errorCode(error) ?? "")) throw error;
      await this.pause(id, { memory: false, ifEnded: true });
    }
  }

  /** The sandbox, running. Its end moves to `timeoutMs` from now when it was paused. */
  resume(id: string, timeoutMs?: number | null): Promise<Sandbox> {
    return this.#parts.held.inTurn(id, () => this.#resume(id, timeoutMs));
  }

  /** Ends its processes and puts the files of a snapshot in the place of its own; then it is as it was, running or paused. */
  restore(id: string, snapshotId: string): Promise<void> {
    return this.#parts.held.inTurn(id, async () => {
      const { store, clock, corral } = this.#parts;
      const record = await store.sandboxes.get(id);
      if (record === undefined) throw notFound(id);
      await this.#pause(id, { memory: false });
      await corral.snapshots.restore(id, snapshotId);
      await tell(this.#parts, record, "sandbox-restore", { snapshotId });
      if (record.state !== "running") return;
      await this.#resume(id, record.endAt === null ? null : Math.max(1, record.endAt - clock.wallMs()));
    });
  }

  /** Takes over what an earlier server left alive of a paused one: it stands still again where it can, else it goes on without its processes. */
  goOn(id: string): Promise<void> {
    const { store, clock, held } = this.#parts;
    return held.inTurn(id, async () => {
      const record = await store.sandboxes.get(id);
      const own = held.get(id);
      if (record?.state !== "paused" || own?.sandbox === undefined) return;
      if (record.memory === true && (await standsStill(own.sandbox))) {
        own.frozenAt = clock.wallMs();
        return;
      }
      await store.sandboxes.change({ id, from: ["paused"], to: "paused", now: clock.wallMs(), memory: false });
      await own.sandbox.pause(false);
      own.sandbox = undefined;
    });
  }

  /** Ends the processes of all paused ones: what of them outlives this process is on disk then. */
  async settle(): Promise<void> {
    const frozen = this.#parts.held.all().filter(([, { frozenAt }]) => frozenAt !== undefined);
    await Promise.allSettled(frozen.map(([id]) => this.#endProcesses(id)));
  }

  /** Ends the processes of paused ones beyond the bounds: those that stand still the longest. */
  async relieve(): Promise<void> {
    const { held, clock } = this.#parts;
    // Processes that died while they stood still are as ended ones.
    for (const [id, { sandbox, frozenAt }] of held.all())
      if (frozenAt !== undefined && sandbox?.info().memory === false) await this.#endProcesses(id);
    const frozen = held.all().flatMap(([id, { frozenAt }]) => (frozenAt === undefined ? [] : [{ id, frozenAt }]));
    frozen.sort((a, b) => a.frozenAt - b.frozenAt);
    const { most, longestMs, leastFreeShare } = this.#parts.frozen ?? BOUNDS;
    const old = frozen.filter(({ frozenAt }) => clock.wallMs() - frozenAt > longestMs).length;
    // One at a time: what it frees is seen at the next look.
    const pressed = freemem() / totalmem() < leastFreeShare ? 1 : 0;
    for (const { id } of frozen.slice(0, Math.max(old, pressed, frozen.length - most))) await this.#endProcesses(id);
  }

  /** Unless it was resumed meanwhile. */
  #endProcesses(id: string): Promise<void> {
    return this.#parts.held.inTurn(id, async () => {
      const record = await this.#parts.store.sandboxes.get(id);
      const own = this.#parts.held.get(id);
      if (record?.state === "paused" && own !== undefined) await this.#change(record, own, false);
    });
  }

  async #pause(id: string, { memory, ifEnded = false }: PauseRequest): Promise<boolean> {
    const { store, clock, held } = this.#parts;
    const record = await store.sandboxes.get(id);
    const own = held.get(id);
    if (record?.state === "paused" && own !== undefined) return await this.#change(record, own, memory);
    if (record?.state !== "running" || own?.sandbox === undefined) throw gone(id, record);
    const now = clock.wallMs();
    // One that never ends by itself does not while it is paused.
    const endAt = record.endAt === null ? null : now + MAX_PAUSED_MS;
    if (!(await store.sandboxes.change({ id, from: ["running"], to: "paused", now, memory, endAt, ifEnded }))) return false;
    const { sandbox } = own;
    try {
      await sandbox.pause(memory);
    } catch (error) {
      if (sandbox.info().state === "running")
        await store.sandboxes.change({ id, from: ["paused"], to: "running", now, endAt: record.endAt });
      throw error;
    }
    if (memory) own.frozenAt = now;
    else own.sandbox = undefined;
    await tell(this.#parts, record, "sandbox-pause", { memory, ...(ifEnded ? { reason: "timeout" } : {}) });
    return true;
  }

  async #change({ id, memory: now, ownerId }: SandboxRecord, own: HeldSandbox, memory: boolean): Promise<boolean> {
    const { store, clock } = this.#parts;
    if (now === memory) return true;
    if (memory) throw new CorralError("sandbox_state", `the sandbox ${id} is paused without its processes; resume it first`);
    await store.sandboxes.change({ id, from: ["paused"], to: "paused", now: clock.wallMs(), memory });
    await own.sandbox?.pause(false);
    own.sandbox = own.frozenAt = undefined;
    await tell(this.#parts, { id, ownerId }, "sandbox-pause", { memory });
    return true;
  }

  async #resume(id: string, timeoutMs: number | null | undefined): Promise<Sandbox> {
    const { store, clock, held } = this.#parts;
    const record = await store.sandboxes.get(id);
    const own = held.get(id);
    if (record?.state === "running" && own?.sandbox !== undefined) return own.sandbox;
    if (record?.state !== "paused" || own === undefined) throw gone(id, record);
    const sandbox = (await thawed(own)) ?? (await this.#remake(id));
    own.sandbox = sandbox;
    own.frozenAt = undefined;
    const now = clock.wallMs();
    const asked = timeoutMs === undefined ? (record.request as { readonly timeoutMs?: number | null }).timeoutMs : timeoutMs;
    // Its end may have come just now: then whoever saw that is about to take it, and needs it here.
    if (!(await store.sandboxes.change({ id, from: ["paused"], to: "running", now, endAt: endOf(asked, now) }))) throw gone(id, undefined);
    await tell(this.#parts, record, "sandbox-resume", { memory: record.memory });
    return sandbox;
  }

  async #remake(id: string): Promise<Sandbox> {
    const { corral, store, clock } = this.#parts;
    const sandbox = await corral.paused.resume(id);
    const { id: _, state: __, memory: ___, ...info } = sandbox.info();
    await store.sandboxes.setInfo(id, { info } satisfies Info, clock.wallMs());
    return sandbox;
  }
}

async function standsStill(sandbox: Sandbox): Promise<boolean> {
  try {
    await sandbox.pause(true);
    return true;
  } catch {
    return false; // it does not come to rest, or its processes died by now
  }
}

/** `undefined`: it has no processes (any more) and is to be made again. */
async function thawed(own: HeldSandbox): Promise<Sandbox | undefined> {
  const { sandbox } = own;
  if (sandbox === undefined) return undefined;
  try {
    await sandbox.resume();
    return sandbox;
  } catch (error) {
    if (sandbox.info().memory !== false) throw error;
    await sandbox.pause(false); // its processes died while they stood still: what is left of that end is waited for
    own.sandbox = own.frozenAt = undefined;
    return undefined;
  }
}

/** The end of a life of `timeoutMs` from now. */
export function endOf(timeoutMs: number | null | undefined, now: number): number | null {
  return timeoutMs === null ? null : now + Math.min(timeoutMs ?? DEFAULT_SANDBOX_MS, MAX_SANDBOX_MS);
}

export function notFound(id: string): CorralError {
  return new CorralError("sandbox_not_found", `there is no sandbox ${JSON.stringify(id)}: it never was, was destroyed, or expired`);
}

/** Why a sandbox cannot be used, from its row. */
export function gone(id: string, record: SandboxRecord | undefined): CorralError {
  if (record?.state === "created") return new CorralError("sandbox_state", `the sandbox ${id} is still being made; try again`);
  if (record?.state !== "failed") return notFound(id);
  return new CorralError("sandbox_lost", `the sandbox ${id} is gone: ${(record.info as Info).reason ?? "it was lost"}`);
}
