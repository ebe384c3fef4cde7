// Snapshots of many owners: who may take, see and delete which, how many there may be, and sandboxes that are made from one or go back to
// one. The files are src/sandbox's. Invariant: the row is in the store before anything is on disk, and gone before that is; a snapshot of
// another owner is as one that never was; one that a living sandbox stands on is not deleted.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { MAX_BATCH } from "../api/limits.ts";
import type { BatchItem, CreateSandboxBody, ListOf, SandboxResource } from "../api/server.ts";
import type { ForkBody, SnapshotResource, TakeSnapshotBody } from "../api/snapshots.ts";
import { HOST_TEMPLATE } from "../api/templates.ts";
import { randomText } from "../base/random-text.ts";
import type { SandboxRecord } from "../store/sandboxes.ts";
import type { ListSnapshots, SnapshotRecord } from "../store/snapshots.ts";
import type { Token } from "../store/tokens.ts";
import { inBatch } from "./batch.ts";
import { createOnce } from "./idempotent.ts";
import type { ServiceParts } from "./parts.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { demandHere, findSnapshot, type OriginFiles, snapshotNotFound } from "./snapshot-rows.ts";
import { tell } from "./tell.ts";

export class Snapshots {
  readonly #parts: ServiceParts;
  readonly #sandboxes: Sandboxes;

  private constructor(parts: ServiceParts, sandboxes: Sandboxes) {
    this.#parts = parts;
    this.#sandboxes = sandboxes;
  }

  static async open(parts: ServiceParts, sandboxes: Sandboxes): Promise<Snapshots> {
    const snapshots = new Snapshots(parts, sandboxes);
    await snapshots.#agree();
    return snapshots;
  }

  async take(token: Token, sandboxId: string, body: TakeSnapshotBody, key?: string): Promise<SnapshotResource> {
    demandOwner(token);
    const { ownerId } = await this.#sandboxes.reach(token, sandboxId);
    const id = newId();
    const made = async (first: string): Promise<SnapshotResource> => {
      const record = await this.#parts.store.snapshots.get(first, ownerId);
      if (record === undefined)
        throw new CorralError("snapshot_state", "the snapshot with this idempotency key is still being taken, or was deleted; try again");
      return resource(record);
    };
    const make = (): Promise<SnapshotResource> => this.#sandboxes.hold(token, sandboxId, (record) => this.#take(record, id, body));
    return await createOnce(this.#parts, { ownerId, key, body: { sandboxId, ...body }, id, make, made });
  }

  async get(token: Token, id: string): Promise<SnapshotResource> {
    demandOwner(token);
    return resource(await findSnapshot(this.#parts, token, id));
  }

  async list(token: Token, request: Omit<ListSnapshots, "ownerId" | "nodeId">): Promise<ListOf<SnapshotResource>> {
    demandOwner(token);
    const owner = token.scope === "admin" ? {} : { ownerId: token.ownerId };
    const { items, next } = await this.#parts.store.snapshots.list({ ...request, ...owner });
    return { items: items.map(resource), ...(next === undefined ? {} : { next }) };
  }

  async delete(token: Token, id: string): Promise<void> {
    demandOwner(token);
    const { store, corral } = this.#parts;
    const record = await findSnapshot(this.#parts, token, id);
    demandHere(this.#parts, record);
    const users = await store.transaction(({ snapshots }) => snapshots.remove(id));
    if (users > 0) throw new CorralError("snapshot_state", `${users} sandboxes stand on ${id}; destroy them first`);
    await tell(this.#parts, record, "snapshot-delete");
    // What a failure leaves on disk no row names: the next start removes it.
    await corral.snapshots.remove(id);
  }

  /** Ends the processes of the sandbox and gives it back the files of one of its snapshots; one that was paused stays so. */
  async restore(token: Token, sandboxId: string, snapshotId: string): Promise<SandboxResource> {
    demandOwner(token);
    await this.#sandboxes.get(token, sandboxId);
    const snapshot = await findSnapshot(this.#parts, token, snapshotId);
    if (snapshot.sandboxId !== sandboxId)
      throw new CorralError(
        "request_invalid",
        `snapshotId: it is of another sandbox; make a new one from it: create({ snapshot: "${snapshotId}" })`,
      );
    demandHere(this.#parts, snapshot);
    // In the store first: from now on it is not deleted.
    if (!(await this.#parts.store.transaction(({ snapshots }) => snapshots.use({ sandboxId, snapshotId }))))
      throw snapshotNotFound(snapshotId);
    return await this.#sandboxes.restore(token, sandboxId, snapshotId);
  }

  /** Each fork is a sandbox or its error; all begin with the same files. They belong to whom the sandbox belongs. */
  async fork(token: Token, sandboxId: string, { count = 1, ...asked }: ForkBody, key?: string): Promise<readonly BatchItem[]> {
    demandOwner(token);
    if (!Number.isInteger(count) || count < 1 || count > MAX_BATCH)
      throw new CorralError("request_invalid", `count: between 1 and ${MAX_BATCH} forks are made at once`);
    const source = await this.#sandboxes.reach(token, sandboxId);
    const owner = { ...token, ownerId: source.ownerId };
    await using files = new PassingFiles(this.#parts, (act) => this.#sandboxes.hold(token, sandboxId, act));
    const items = await inBatch(count, async (index) => {
      const id = `${ID_PREFIX.sandbox}${randomText(ID_BODY_LENGTH)}`;
      const make = async (): Promise<SandboxResource> => {
        const { origin, record } = await files.taken();
        const body: CreateSandboxBody = { metadata: record.metadata, onTimeout: record.onTimeout, ...asked };
        return await this.#sandboxes.createFrom(owner, id, body, origin);
      };
      const once = { ownerId: owner.ownerId, key: key === undefined ? undefined : `${key}#${index}`, body: { sandboxId, ...asked }, id };
      return await createOnce(this.#parts, { ...once, make, made: (first) => this.#sandboxes.made(owner, first) });
    });
    if (files.failure !== undefined) throw files.failure;
    await tell(this.#parts, source, "sandbox-fork", {
      ids: items.flatMap((item) => ("sandbox" in item ? [item.sandbox.id] : [])),
    });
    return items;
  }

  async #take(sandbox: SandboxRecord, id: string, { name = "", metadata = {} }: TakeSnapshotBody): Promise<SnapshotResource> {
    const { store, corral, clock, nodeId } = this.#parts;
    const { ownerId, id: sandboxId, request } = sandbox;
    const { codebase, template = HOST_TEMPLATE } = request as Pick<SandboxResource, "codebase" | "template">;
    const stands = { codebase: codebase ?? null, templateId: template === HOST_TEMPLATE ? null : template };
    const row = { id, ownerId, nodeId, sandboxId, name, metadata, request, ...stands, createdAt: clock.wallMs() };
    await store.snapshots.add(row);
    try {
      await this.#demandRoom(ownerId);
      const { bytes } = await corral.snapshots.take(sandboxId, id);
      await store.snapshots.complete(id, bytes);
      await tell(this.#parts, row, "snapshot-create", { sandboxId, name });
      return resource({ ...row, bytes });
    } catch (error) {
      await store.transaction(({ snapshots }) => snapshots.remove(id));
      await corral.snapshots.remove(id);
      throw error;
    }
  }

  /** With the row of the new one: of two that come at once, none passes the limit. */
  async #demandRoom(ownerId: string): Promise<void> {
    const { store, quotas } = this.#parts;
    const { count, bytes } = await store.snapshots.usage(ownerId);
    if (count > quotas.snapshots)
      throw new CorralError("limit_reached", `${ownerId} has ${quotas.snapshots} snapshots, which is the limit; delete one first`);
    if (bytes >= quotas.snapshotBytes)
      throw new CorralError("limit_reached", `the snapshots of ${ownerId} hold ${bytes} bytes, which is the limit; delete one first`);
  }

  /** Rows of this node and its disk: what only one of them knows goes. */
  async #agree(): Promise<void> {
    const { store, corral, nodeId } = this.#parts;
    const onDisk = new Set(await corral.snapshots.list());
    let page = await store.snapshots.list({ nodeId });
    for (;;) {
      for (const { id, ownerId } of page.items) {
        if (onDisk.delete(id)) continue;
        await store.transaction(({ snapshots }) => snapshots.remove(id));
        await tell(this.#parts, { id, ownerId }, "snapshot-delete", { reason: "its files are gone" });
      }
      if (page.next === undefined) break;
      page = await store.snapshots.list({ nodeId, cursor: page.next });
    }
    for (const id of onDisk) await corral.snapshots.remove(id);
  }
}

type Hold = <T>(act: (record: SandboxRecord) => Promise<T>) => Promise<T>;

/** The files that forks begin with: taken when the first of them needs them, gone with the call. */
class PassingFiles implements AsyncDisposable {
  /** Why there are none. */
  failure: Error | undefined;
  readonly #parts: ServiceParts;
  readonly #hold: Hold;
  readonly #id = newId();
  #taken: Promise<{ readonly origin: OriginFiles; readonly record: SandboxRecord }> | undefined;

  constructor(parts: ServiceParts, hold: Hold) {
    this.#parts = parts;
    this.#hold = hold;
  }

  taken(): Promise<{ readonly origin: OriginFiles; readonly record: SandboxRecord }> {
    this.#taken ??= this.#take();
    return this.#taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#taken !== undefined) await this.#parts.corral.snapshots.remove(this.#id);
  }

  async #take(): Promise<{ readonly origin: OriginFiles; readonly record: SandboxRecord }> {
    try {
      return await this.#hold(async (record) => {
        await this.#parts.corral.snapshots.take(record.id, this.#id, { passing: true });
        return { record, origin: { snapshotId: this.#id, request: record.request as CreateSandboxBody, listed: false } };
      });
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }
}

function newId(): string {
  return `${ID_PREFIX.snapshot}${randomText(ID_BODY_LENGTH)}`;
}

function demandOwner({ scope }: Token): void {
  if (scope === "sandbox")
    throw new CorralError("forbidden", "a key for one sandbox takes no snapshots and makes no forks; use a key of scope user");
}

function resource({ id, ownerId, sandboxId, name, metadata, codebase, bytes, createdAt }: SnapshotRecord): SnapshotResource {
  const stands = codebase === null ? {} : { codebase };
  return { id, ownerId, sandboxId, name, metadata, ...stands, bytes: bytes ?? 0, createdAt: new Date(createdAt).toISOString() };
}
