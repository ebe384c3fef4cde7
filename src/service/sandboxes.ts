// Sandboxes of many owners: what an owner may see, how many they may have, when each ends. The one place that answers whether a token
// reaches a sandbox: other nouns ask `open`. Not HTTP and not how a sandbox is made. Invariant: the row is in the store before anything
// is in the kernel; a sandbox of another owner is as one that never was; a renewal and an end never both succeed.

import type { Corral, PoolFigures } from "../api/corral.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { EVENT_KEEP_MS, EXPIRY_SWEEP_MS, OLD_ROWS_SWEEP_MS } from "../api/limits.ts";
import type { SandboxMetrics } from "../api/metrics.ts";
import type { RuntimeName, Sandbox, SandboxInfo } from "../api/sandbox.ts";
import type { CreateSandboxBody, ListOf, PauseBody, ResumeBody, SandboxResource } from "../api/server.ts";
import { HOST_TEMPLATE } from "../api/templates.ts";
import { randomText } from "../base/random-text.ts";
import { restingMetrics } from "../sandbox/metrics.ts";
import type { ListRequest, SandboxRecord } from "../store/sandboxes.ts";
import type { Token } from "../store/tokens.ts";
import { demandMakeable } from "./create-request.ts";
import { Held } from "./held.ts";
import { createOnce } from "./idempotent.ts";
import type { ServiceParts } from "./parts.ts";
import { endOf, gone, type Info, notFound, Pausing } from "./pausing.ts";
import { newRecord, reaches, resource } from "./sandbox-rows.ts";
import type { OriginFiles } from "./snapshot-rows.ts";
import type { Standing, Stands } from "./stands.ts";
import { tell } from "./tell.ts";

const SWEEP_BATCH = 100;
const ALIVE = ["created", "running", "paused"] as const;

export class Sandboxes implements AsyncDisposable {
  readonly #parts: ServiceParts;
  readonly #stands: Stands;
  readonly #held = new Held();
  readonly #pausing: Pausing;
  /** Creates under way, by owner: they count before they are there. */
  readonly #creating = new Map<string, number>();
  #rowsSweptMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  private constructor(parts: ServiceParts, stands: Stands) {
    this.#parts = parts;
    this.#stands = stands;
    this.#pausing = new Pausing({ ...parts, held: this.#held });
  }

  /** After opening the local client nothing lives that it did not take over, and what is paused is there. */
  static async open(parts: ServiceParts, stands: Stands): Promise<Sandboxes> {
    const service = new Sandboxes(parts, stands);
    await service.#takeOver();
    service.#timer = setInterval(() => service.#sweep(), EXPIRY_SWEEP_MS);
    return service;
  }

  async create(token: Token, body: CreateSandboxBody, key?: string): Promise<SandboxResource> {
    demandMakeable(token, body);
    const { pool } = this.#parts.corral;
    const kind = poolKind(body);
    const id = (kind === undefined ? undefined : pool?.take(kind)) ?? `${ID_PREFIX.sandbox}${randomText(ID_BODY_LENGTH)}`;
    const make = (): Promise<SandboxResource> => this.createFrom(token, id, body);
    const made = (first: string): Promise<SandboxResource> => this.made(token, first);
    try {
      return await createOnce(this.#parts, { ownerId: token.ownerId, key, body, id, make, made });
    } finally {
      pool?.drop(id); // unless it became the sandbox
    }
  }

  /** While `act` runs, nobody pauses, resumes or ends it: it runs, or is paused. */
  async hold<T>(token: Token, id: string, act: (record: SandboxRecord) => Promise<T>): Promise<T> {
    this.#demandAlive(await this.#record(token, id));
    return await this.#held.inTurn(id, async () => {
      const record = await this.#record(token, id, "with metadata");
      this.#demandAlive(record);
      return await act(record);
    });
  }

  /** Its processes end, and its files are those of a snapshot of its own. */
  async restore(token: Token, id: string, snapshotId: string): Promise<SandboxResource> {
    this.#demandAlive(await this.#record(token, id));
    await this.#pausing.restore(id, snapshotId);
    return await this.get(token, id);
  }

  async get(token: Token, id: string): Promise<SandboxResource> {
    return resource(await this.#record(token, id, "with metadata"), this.#parts.networks);
  }

  async list(token: Token, request: Omit<ListRequest, "ownerId">): Promise<ListOf<SandboxResource>> {
    if (token.scope === "sandbox") return { items: [await this.get(token, token.sandboxId ?? "")] };
    const owner = token.scope === "admin" ? {} : { ownerId: token.ownerId };
    const { items, next } = await this.#parts.store.sandboxes.list({ ...request, ...owner });
    return { items: items.map((item) => resource(item, this.#parts.networks)), ...(next === undefined ? {} : { next }) };
  }

  /** Moves the end to `timeoutMs` from now. */
  async renew(token: Token, id: string, timeoutMs: number | null): Promise<SandboxResource> {
    await this.#record(token, id);
    const now = this.#parts.clock.wallMs();
    if (!(await this.#parts.store.sandboxes.renew(id, endOf(timeoutMs, now), now))) throw notFound(id);
    const renewed = await this.get(token, id);
    await tell(this.#parts, renewed, "sandbox-renew", { endAt: renewed.endAt });
    return renewed;
  }

  /** The running sandbox behind an id, to use it; one that is paused is resumed. */
  async open(token: Token, id: string): Promise<Sandbox> {
    // Commands come often: what this process holds itself is asked of no database.
    const held = this.#held.get(id);
    if (held?.sandbox?.info().state === "running" && reaches(token, id, held.ownerId)) return held.sandbox;
    this.#demandAlive(await this.#record(token, id));
    return await this.#pausing.resume(id);
  }

  /** Nothing is resumed by it. */
  async metrics(token: Token, id: string): Promise<SandboxMetrics> {
    const own = this.#held.get(id);
    if (own?.sandbox?.info().state === "running" && reaches(token, id, own.ownerId)) return await own.sandbox.metrics();
    this.#demandAlive(await this.#record(token, id));
    const sandbox = this.#held.get(id)?.sandbox;
    return sandbox === undefined || sandbox.info().memory === false ? restingMetrics(id, this.#parts.clock) : await sandbox.metrics();
  }

  async pause(token: Token, id: string, { memory = true }: PauseBody = {}): Promise<SandboxResource> {
    this.#demandAlive(await this.#record(token, id));
    await this.#pausing.pause(id, { memory });
    return await this.get(token, id);
  }

  async resume(token: Token, id: string, { timeoutMs }: ResumeBody = {}): Promise<SandboxResource> {
    this.#demandAlive(await this.#record(token, id));
    await this.#pausing.resume(id, timeoutMs);
    return await this.get(token, id);
  }

  /** The row behind an id, also of one that ended: what it left may be asked for, but not by a key for it alone, which ended with it. */
  async reach(token: Token, id: string): Promise<SandboxRecord> {
    const record = await this.#row(token, id);
    if (token.scope === "sandbox" && !ALIVE.some((state) => state === record.state)) throw notFound(id);
    this.#demandOwn(id, record.nodeId);
    return record;
  }

  lives(id: string): boolean {
    return this.#held.get(id) !== undefined;
  }

  /** How many this server holds. */
  counts(): readonly { readonly state: SandboxInfo["state"]; readonly runtime: RuntimeName; readonly count: number }[] {
    const counts = new Map<string, { readonly state: SandboxInfo["state"]; readonly runtime: RuntimeName; count: number }>();
    for (const [, { sandbox, runtime }] of this.#held.all()) {
      const state = sandbox?.info().state ?? "paused";
      const known = counts.get(`${state} ${runtime}`);
      if (known === undefined) counts.set(`${state} ${runtime}`, { state, runtime, count: 1 });
      else known.count += 1;
    }
    return [...counts.values()];
  }

  /** What waits to become one; absent: nothing ever does. */
  pool(): PoolFigures | undefined {
    return this.#parts.corral.pool?.figures();
  }

  /** What they take. */
  usage(): ReturnType<Corral["usage"]> {
    return this.#parts.corral.usage();
  }

  /** Idempotent: whoever comes second is told `false`. */
  async destroy(token: Token, id: string): Promise<boolean> {
    const record = await this.#record(token, id);
    if (record.state === "created") throw gone(id, record);
    this.#demandOwn(id, record.nodeId);
    return await this.#held.inTurn(id, async () => {
      const now = this.#parts.clock.wallMs();
      const mine = await this.#parts.store.sandboxes.change({ id, from: ["running", "paused"], to: "destroyed", now });
      await this.#take(id);
      if (mine) await tell(this.#parts, record, "sandbox-destroy");
      return mine;
    });
  }

  #demandAlive(record: SandboxRecord): void {
    if (record.state === "created" || record.state === "failed") throw gone(record.id, record);
    this.#demandOwn(record.id, record.nodeId);
  }

  #demandOwn(id: string, nodeId: string): void {
    if (nodeId !== this.#parts.nodeId)
      throw new CorralError("sandbox_state", `the sandbox ${id} lives on ${nodeId}, which this server is not; ask that server`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
    await this.#pausing.settle();
    const { store, clock } = this.#parts;
    const ids = this.#held.all().flatMap(([id, { sandbox }]) => (sandbox === undefined ? [] : [id]));
    await Promise.allSettled(ids.map((id) => this.#held.inTurn(id, () => this.#take(id))));
    for (const id of ids) await store.sandboxes.change({ id, from: ALIVE, to: "destroyed", now: clock.wallMs() });
  }

  /** Within the owner's quota; `given`: over these files. */
  async createFrom(token: Token, id: string, body: CreateSandboxBody, given?: OriginFiles): Promise<SandboxResource> {
    const { ownerId } = token;
    const { store, clock, nodeId, quotas, corral } = this.#parts;
    const creating = this.#creating.get(ownerId) ?? 0;
    const alive = this.#held.countOf(ownerId);
    if (alive + creating >= quotas.sandboxes)
      throw new CorralError("limit_reached", `${ownerId} has ${quotas.sandboxes} sandboxes, which is the limit; destroy one first`);
    this.#creating.set(ownerId, creating + 1);
    try {
      const standing = await this.#stands.resolve(token, id, body, given);
      await this.#parts.networks.demandSound(ownerId, standing.body.network ?? "none");
      const record = { ...newRecord(token, id, standing.body, clock.wallMs()), nodeId };
      await store.transaction(async (tables) => {
        await tables.sandboxes.add(record);
        await standing.use(tables);
      });
      await this.#make(standing, id, ownerId);
      const { ahead } = standing;
      const kind = poolKind(body);
      if (kind !== undefined && ahead !== undefined) corral.pool?.want(kind, ahead, this.#held.get(id)?.sandbox?.info().source === "pool");
      return await this.get(token, id);
    } finally {
      const left = (this.#creating.get(ownerId) ?? 1) - 1;
      if (left === 0) this.#creating.delete(ownerId);
      else this.#creating.set(ownerId, left);
    }
  }

  /** What fails on the way leaves nothing running, and stands in the store as failed with its reason. */
  async #make({ make, source, body }: Standing, id: string, ownerId: string): Promise<void> {
    const { store, clock, meter } = this.#parts;
    try {
      const sandbox = await make();
      this.#held.add(id, { ownerId, runtime: sandbox.info().runtime, sandbox });
      const { id: _, state: __, memory: ___, ...info } = sandbox.info();
      await store.sandboxes.setInfo(id, { info } satisfies Info, clock.wallMs());
      await store.sandboxes.change({ id, from: ["created"], to: "running", now: clock.wallMs() });
      await tell(this.#parts, { id, ownerId }, "sandbox-create");
      meter.started({ source: info.source ?? source, runtime: info.runtime });
    } catch (error) {
      meter.started({ source, runtime: body.runtime ?? "none", failure: errorCode(error) ?? "internal" });
      await this.#take(id);
      // It may be the store that failed; then the next start finds the row and writes the same.
      await this.#fail(id, error instanceof Error ? error.message : String(error)).catch(() => undefined);
      throw error;
    }
  }

  /** The winner of an idempotent create, which may still be at work. */
  async made(token: Token, id: string): Promise<SandboxResource> {
    const record = await this.#parts.store.sandboxes.get(id, token.ownerId);
    if (record === undefined || record.state === "created")
      throw new CorralError("sandbox_state", "the create with this idempotency key is still under way; try again");
    return resource(record, this.#parts.networks);
  }

  async #record(token: Token, id: string, how?: "with metadata"): Promise<SandboxRecord> {
    const record = await this.#row(token, id, how);
    if (record.state === "destroyed") throw notFound(id);
    return record;
  }

  /** With what is true now: a sandbox that died since is told as failed. */
  async #row(token: Token, id: string, how?: "with metadata"): Promise<SandboxRecord> {
    const { store } = this.#parts;
    // An id that is spelled like none is asked of no database: some refuse bytes that others keep.
    if (!isId("sandbox", id) || (token.scope === "sandbox" && token.sandboxId !== id)) throw notFound(id);
    if (this.#held.get(id)?.sandbox?.info().state === "failed") await this.#noteLoss(id);
    const ownerId = token.scope === "admin" ? undefined : token.ownerId;
    const record = how === undefined ? (await store.sandboxes.some([id], ownerId)).get(id) : await store.sandboxes.get(id, ownerId);
    if (record === undefined) throw notFound(id);
    return record;
  }

  async #noteLoss(id: string): Promise<void> {
    this.#held.remove(id);
    await this.#fail(id, "it died without being asked to");
  }

  async #fail(id: string, reason: string): Promise<void> {
    const { store, clock } = this.#parts;
    const record = await store.sandboxes.get(id);
    if (record === undefined || !(await store.sandboxes.change({ id, from: ALIVE, to: "failed", now: clock.wallMs() }))) return;
    await store.sandboxes.setInfo(id, { ...(record.info as Info), reason } satisfies Info, clock.wallMs());
    await tell(this.#parts, record, "sandbox-fail", { reason });
  }

  /**
   * Rows of this node as an earlier server left them, what of it lives, and what only the disk knows. What runs or is paused goes on, its end
   * as it was; all else is failed.
   */
  async #takeOver(): Promise<void> {
    const { store, nodeId, corral } = this.#parts;
    const living = new Map(corral.adopted.map((sandbox) => [sandbox.id, sandbox]));
    const onDisk = new Set(await corral.paused.list());
    let page = await store.sandboxes.list({ nodeId });
    for (;;) {
      for (const record of page.items) {
        const sandbox = living.get(record.id);
        const isKnown = await (sandbox === undefined ? this.#findPaused(record, onDisk.delete(record.id)) : this.#goOn(record, sandbox));
        if (isKnown) living.delete(record.id);
        else await this.#fail(record.id, "the server that held it ended");
      }
      if (page.next === undefined) break;
      page = await store.sandboxes.list({ nodeId, cursor: page.next });
    }
    // Of another database, of a destroy that was cut off, or of a create whose owner was told nothing.
    await Promise.allSettled([...living.values()].map((sandbox) => sandbox.destroy()));
    for (const id of onDisk) await corral.paused.abandon(id);
  }

  /** False: its owner was never told of it. */
  async #goOn(record: SandboxRecord, sandbox: Sandbox): Promise<boolean> {
    const { id, ownerId, state } = record;
    if (state === "created") return false;
    this.#held.add(id, { ownerId, runtime: sandbox.info().runtime, sandbox });
    await (state === "paused" ? this.#pausing.goOn(id) : sandbox.resume());
    await tell(this.#parts, { id, ownerId }, "sandbox-adopt");
    return true;
  }

  /** False: it did not wait on disk. */
  async #findPaused({ id, ownerId, state, memory, info }: SandboxRecord, isOnDisk: boolean): Promise<boolean> {
    if (state !== "paused" || !isOnDisk) return false;
    // Its processes ended with the server that held them.
    const now = this.#parts.clock.wallMs();
    if (memory === true) await this.#parts.store.sandboxes.change({ id, from: ["paused"], to: "paused", now, memory: false });
    this.#held.add(id, { ownerId, runtime: (info as Info).info?.runtime ?? "native", sandbox: undefined });
    return true;
  }

  /** Within its turn. */
  async #take(id: string): Promise<void> {
    const held = this.#held.get(id);
    if (held === undefined) return;
    await held.sandbox?.destroy();
    await this.#parts.corral.paused.destroy(id);
    this.#held.remove(id);
  }

  #sweep(): void {
    // One at a time; what fails is found again by the next.
    this.#sweeping = this.#sweeping.then(() => this.#endOverdue()).catch(() => undefined);
  }

  async #endOverdue(): Promise<void> {
    const { store, clock, nodeId } = this.#parts;
    const now = clock.wallMs();
    for (const [id, { sandbox }] of this.#held.all()) if (sandbox?.info().state === "failed") await this.#noteLoss(id);
    for (const id of await store.sandboxes.ended(nodeId, now, SWEEP_BATCH)) await this.#end(id).catch(() => undefined); // and the next one's turn
    await this.#pausing.relieve();
    if (clock.monotonicMs() - this.#rowsSweptMs < OLD_ROWS_SWEEP_MS) return;
    this.#rowsSweptMs = clock.monotonicMs();
    await store.idempotency.sweep(now);
    await store.events.cut(now - EVENT_KEEP_MS);
  }

  async #end(id: string): Promise<void> {
    const { store, clock } = this.#parts;
    const record = await store.sandboxes.get(id);
    if (record?.onTimeout === "pause" && record.state === "running") return await this.#pausing.pauseAtEnd(id);
    await this.#held.inTurn(id, async () => {
      const now = clock.wallMs();
      if (!(await store.sandboxes.change({ id, from: ["running", "paused"], to: "destroyed", now, ifEnded: true }))) return;
      await this.#take(id);
      await tell(this.#parts, { id, ownerId: record?.ownerId ?? "" }, "sandbox-expire");
    });
  }
}

/** What a sandbox may be started ahead as, before anybody asks for it so. */
function poolKind({ template = HOST_TEMPLATE, limits, runtime, snapshot, network = "none" }: CreateSandboxBody): string | undefined {
  return (limits ?? runtime ?? snapshot) === undefined && network === "none" ? template : undefined;
}
