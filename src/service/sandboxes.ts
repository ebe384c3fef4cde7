// Sandboxes of many owners: what an owner may see, how many they may have, when each ends. The one place that answers whether a token
// reaches a sandbox: other nouns ask `open`. Not HTTP and not how a sandbox is made. Invariant: the row is in the store before anything
// is in the kernel; a sandbox of another owner is as one that never was; a renewal and an end never both succeed.

import { createHash } from "node:crypto";
import type { Corral } from "../api/corral.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { DEFAULT_SANDBOX_MS, EXPIRY_SWEEP_MS, MAX_SANDBOX_MS } from "../api/limits.ts";
import type { CreateRequest, RuntimeName, Sandbox, SandboxInfo } from "../api/sandbox.ts";
import type { CreateSandboxBody, ListOf, SandboxResource } from "../api/server.ts";
import { randomText } from "../base/random-text.ts";
import type { ListRequest, SandboxRecord } from "../store/sandboxes.ts";
import type { Token } from "../store/tokens.ts";
import type { ServiceParts } from "./parts.ts";

type Info = Pick<SandboxResource, "info" | "reason">;

const SWEEP_BATCH = 100;
const ALIVE = ["created", "running", "paused"] as const;

export class Sandboxes implements AsyncDisposable {
  readonly #parts: ServiceParts;
  readonly #live = new Map<string, { readonly sandbox: Sandbox; readonly ownerId: string }>();
  /** Creates under way, by owner: they count before they are there. */
  readonly #creating = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  private constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  /** What the store believes to live is gone: opening the local client has cleared its kernel objects. */
  static async open(parts: ServiceParts): Promise<Sandboxes> {
    const service = new Sandboxes(parts);
    await service.#failAllLive("the server that held it ended");
    service.#timer = setInterval(() => service.#sweep(), EXPIRY_SWEEP_MS);
    return service;
  }

  async create(token: Token, body: CreateSandboxBody, key?: string): Promise<SandboxResource> {
    if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox makes no other; use a key of scope user");
    // SAFETY: whoever may name a directory reads it with the server's rights.
    if (body.codebaseDir !== undefined && token.scope !== "admin")
      throw new CorralError("forbidden", "codebaseDir names a directory of the server's machine, which takes a key of scope admin");
    const id = `${ID_PREFIX.sandbox}${randomText(ID_BODY_LENGTH)}`;
    if (key === undefined) return await this.#createNew(token, id, body);
    const claim = await this.#parts.store.idempotency.claim({
      ownerId: token.ownerId,
      key,
      bodyHash: createHash("sha256").update(JSON.stringify(body)).digest("hex"),
      resultId: id,
      now: this.#parts.clock.wallMs(),
    });
    if (!claim.sameBody) throw new CorralError("idempotency_conflict", "this idempotency key was used for another request; use a new one");
    if (!claim.won) return await this.#made(token, claim.resultId);
    try {
      return await this.#createNew(token, id, body);
    } catch (error) {
      await this.#parts.store.idempotency.release(token.ownerId, key, id);
      throw error;
    }
  }

  async get(token: Token, id: string): Promise<SandboxResource> {
    return resource(await this.#record(token, id, "with metadata"));
  }

  async list(token: Token, request: Omit<ListRequest, "ownerId">): Promise<ListOf<SandboxResource>> {
    if (token.scope === "sandbox") return { items: [await this.get(token, token.sandboxId ?? "")] };
    const owner = token.scope === "admin" ? {} : { ownerId: token.ownerId };
    const { items, next } = await this.#parts.store.sandboxes.list({ ...request, ...owner });
    return { items: items.map(resource), ...(next === undefined ? {} : { next }) };
  }

  /** Moves the end to `timeoutMs` from now. */
  async renew(token: Token, id: string, timeoutMs: number | null): Promise<SandboxResource> {
    await this.#record(token, id);
    const now = this.#parts.clock.wallMs();
    if (!(await this.#parts.store.sandboxes.renew(id, endOf(timeoutMs, now), now))) throw notFound(id);
    return await this.get(token, id);
  }

  /** The live sandbox behind an id, to run commands in. */
  async open(token: Token, id: string): Promise<Sandbox> {
    // Commands come often: what this process holds itself is asked of no database.
    const live = this.#live.get(id);
    if (live !== undefined && live.sandbox.info().state !== "failed" && reaches(token, id, live.ownerId)) return live.sandbox;
    const { state, info, nodeId } = await this.#record(token, id);
    if (state === "failed") throw new CorralError("sandbox_lost", `the sandbox ${id} is gone: ${(info as Info).reason ?? "it was lost"}`);
    if (state === "created") throw new CorralError("sandbox_state", `the sandbox ${id} is still being made; try again`);
    this.#demandOwn(id, nodeId);
    throw notFound(id);
  }

  /** The row behind an id, also of one that ended: what it left may be asked for, but not by a key for it alone, which ended with it. */
  async reach(token: Token, id: string): Promise<SandboxRecord> {
    const record = await this.#row(token, id);
    if (token.scope === "sandbox" && !ALIVE.some((state) => state === record.state)) throw notFound(id);
    this.#demandOwn(id, record.nodeId);
    return record;
  }

  lives(id: string): boolean {
    return this.#live.has(id);
  }

  /** How many this server holds. */
  counts(): readonly { readonly state: SandboxInfo["state"]; readonly runtime: RuntimeName; readonly count: number }[] {
    const counts = new Map<string, { readonly state: SandboxInfo["state"]; readonly runtime: RuntimeName; count: number }>();
    for (const { sandbox } of this.#live.values()) {
      const { state, runtime } = sandbox.info();
      const known = counts.get(`${state} ${runtime}`);
      if (known === undefined) counts.set(`${state} ${runtime}`, { state, runtime, count: 1 });
      else known.count += 1;
    }
    return [...counts.values()];
  }

  /** What they take. */
  usage(): ReturnType<Corral["usage"]> {
    return this.#parts.corral.usage();
  }

  /** Idempotent: whoever comes second is told `false`. */
  async destroy(token: Token, id: string): Promise<boolean> {
    const record = await this.#record(token, id);
    if (record.state === "created") throw new CorralError("sandbox_state", `the sandbox ${id} is still being made; try again`);
    this.#demandOwn(id, record.nodeId);
    const mine = await this.#parts.store.sandboxes.change({
      id,
      from: ["running", "paused"],
      to: "destroyed",
      now: this.#parts.clock.wallMs(),
    });
    await this.#take(id);
    if (mine) await this.#event(record.ownerId, "sandbox-destroy", id, {});
    return mine;
  }

  #demandOwn(id: string, nodeId: string): void {
    if (nodeId !== this.#parts.nodeId)
      throw new CorralError("sandbox_state", `the sandbox ${id} lives on ${nodeId}, which this server is not; ask that server`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
    const { store, clock } = this.#parts;
    const ids = [...this.#live.keys()];
    await Promise.allSettled(ids.map((id) => this.#take(id)));
    for (const id of ids) await store.sandboxes.change({ id, from: ALIVE, to: "destroyed", now: clock.wallMs() });
  }

  async #createNew(token: Token, id: string, body: CreateSandboxBody): Promise<SandboxResource> {
    const { ownerId } = token;
    const { store, clock, nodeId, quotas } = this.#parts;
    const creating = this.#creating.get(ownerId) ?? 0;
    const alive = [...this.#live.values()].filter((live) => live.ownerId === ownerId).length;
    if (alive + creating >= quotas.sandboxes)
      throw new CorralError("limit_reached", `${ownerId} has ${quotas.sandboxes} sandboxes, which is the limit; destroy one first`);
    this.#creating.set(ownerId, creating + 1);
    try {
      const request = await this.#request(id, body);
      await store.transaction(({ sandboxes }) => sandboxes.add({ ...newRecord(token, id, body, clock.wallMs()), nodeId }));
      await this.#make(request, id, ownerId);
      return await this.get(token, id);
    } finally {
      const left = (this.#creating.get(ownerId) ?? 1) - 1;
      if (left === 0) this.#creating.delete(ownerId);
      else this.#creating.set(ownerId, left);
    }
  }

  async #request(id: string, body: CreateSandboxBody): Promise<CreateRequest> {
    const { codebaseDir, policy = codebaseDir === undefined ? "full-access" : "agent-safe", runtime, limits, env, delta } = body;
    // SAFETY: `load` also reads policy files of this machine, so a name from the wire must be that of a preset.
    if (typeof policy === "string" && !/^[a-z-]+(@\d+)?$/.test(policy))
      throw new CorralError("preset_unknown", "policy: no preset has that name; send one of the presets, or rules");
    return {
      id,
      policy: typeof policy === "string" ? await this.#parts.corral.policies.load(policy) : policy,
      ...(codebaseDir === undefined ? {} : { codebaseDir }),
      ...(runtime === undefined ? {} : { runtime }),
      ...(limits === undefined ? {} : { limits }),
      ...(env === undefined ? {} : { env }),
      ...(delta === undefined ? {} : { delta }),
    };
  }

  /** What fails on the way leaves nothing running, and stands in the store as failed with its reason. */
  async #make(request: CreateRequest, id: string, ownerId: string): Promise<void> {
    const { corral, store, clock, meter } = this.#parts;
    try {
      const sandbox = await corral.create(request);
      this.#live.set(id, { sandbox, ownerId });
      const { id: _, state: __, ...info } = sandbox.info();
      await store.sandboxes.setInfo(id, { info } satisfies Info, clock.wallMs());
      await store.sandboxes.change({ id, from: ["created"], to: "running", now: clock.wallMs() });
      await this.#event(ownerId, "sandbox-create", id, {});
      meter.started({ source: "cold", runtime: info.runtime });
    } catch (error) {
      meter.started({ source: "cold", runtime: request.runtime ?? "none", failure: errorCode(error) ?? "internal" });
      await this.#take(id);
      // It may be the store that failed; then the next start finds the row and writes the same.
      await this.#fail(id, error instanceof Error ? error.message : String(error)).catch(() => undefined);
      throw error;
    }
  }

  /** The winner of an idempotent create, which may still be at work. */
  async #made(token: Token, id: string): Promise<SandboxResource> {
    const record = await this.#parts.store.sandboxes.get(id, token.ownerId);
    if (record === undefined || record.state === "created")
      throw new CorralError("sandbox_state", "the create with this idempotency key is still under way; try again");
    return resource(record);
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
    if (this.#live.get(id)?.sandbox.info().state === "failed") await this.#noteLoss(id);
    const ownerId = token.scope === "admin" ? undefined : token.ownerId;
    const record = how === undefined ? (await store.sandboxes.some([id], ownerId)).get(id) : await store.sandboxes.get(id, ownerId);
    if (record === undefined) throw notFound(id);
    return record;
  }

  async #noteLoss(id: string): Promise<void> {
    this.#live.delete(id);
    await this.#fail(id, "it died without being asked to");
  }

  async #fail(id: string, reason: string): Promise<void> {
    const { store, clock } = this.#parts;
    const record = await store.sandboxes.get(id);
    if (record === undefined || !(await store.sandboxes.change({ id, from: ALIVE, to: "failed", now: clock.wallMs() }))) return;
    await store.sandboxes.setInfo(id, { ...(record.info as Info), reason } satisfies Info, clock.wallMs());
    await this.#event(record.ownerId, "sandbox-fail", id, { reason });
  }

  async #failAllLive(reason: string): Promise<void> {
    const { store, nodeId } = this.#parts;
    let page = await store.sandboxes.list({ nodeId });
    for (;;) {
      for (const { id } of page.items) await this.#fail(id, reason);
      if (page.next === undefined) return;
      page = await store.sandboxes.list({ nodeId, cursor: page.next });
    }
  }

  async #take(id: string): Promise<void> {
    const live = this.#live.get(id);
    if (live === undefined) return;
    await live.sandbox.destroy();
    this.#live.delete(id);
  }

  #sweep(): void {
    // One at a time; what fails is found again by the next.
    this.#sweeping = this.#sweeping.then(() => this.#endOverdue()).catch(() => undefined);
  }

  async #endOverdue(): Promise<void> {
    const { store, clock, nodeId } = this.#parts;
    const now = clock.wallMs();
    for (const [id, { sandbox }] of this.#live) if (sandbox.info().state === "failed") await this.#noteLoss(id);
    for (const id of await store.sandboxes.ended(nodeId, now, SWEEP_BATCH)) {
      if (!(await store.sandboxes.change({ id, from: ["running", "paused"], to: "destroyed", now, ifEnded: true }))) continue;
      const owner = this.#live.get(id)?.ownerId;
      await this.#take(id);
      if (owner !== undefined) await this.#event(owner, "sandbox-expire", id, {});
    }
    await store.idempotency.sweep(now);
  }

  async #event(ownerId: string, kind: string, subjectId: string, data: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#parts.store.events.append({ at: this.#parts.clock.wallMs(), ownerId, kind, subjectId, data });
  }
}

function newRecord(token: Token, id: string, body: CreateSandboxBody, now: number): Omit<SandboxRecord, "nodeId"> {
  const { metadata = {}, timeoutMs = DEFAULT_SANDBOX_MS, env: _, ...request } = body; // an environment may hold secrets
  const base = { id, ownerId: token.ownerId, state: "created", request, info: {}, onTimeout: "kill", metadata } as const;
  return { ...base, createdAt: now, updatedAt: now, endAt: endOf(timeoutMs, now) };
}

function endOf(timeoutMs: number | null, now: number): number | null {
  return timeoutMs === null ? null : now + Math.min(timeoutMs, MAX_SANDBOX_MS);
}

function reaches(token: Token, id: string, ownerId: string): boolean {
  return token.scope === "admin" || (token.ownerId === ownerId && (token.scope === "user" || token.sandboxId === id));
}

function notFound(id: string): CorralError {
  return new CorralError("sandbox_not_found", `there is no sandbox ${JSON.stringify(id)}: it never was, was destroyed, or expired`);
}

function resource({ id, ownerId, state, metadata, createdAt, endAt, info }: SandboxRecord): SandboxResource {
  const times = { createdAt: new Date(createdAt).toISOString(), endAt: endAt === null ? null : new Date(endAt).toISOString() };
  return { id, ownerId, state, metadata, ...times, ...(info as Info) };
}
