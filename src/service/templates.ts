// Templates of many owners: who may use which, how a root comes to be, and what is made of one that was being built when the server ended.
// The bytes are src/codebases'. Invariant: a template that is ready has its whole root on the disk; one is built once; a template of
// another owner that is not shared is as one that never was.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { MAX_TEMPLATES_PER_OWNER } from "../api/limits.ts";
import type { StoredRoot } from "../api/sandbox.ts";
import type { ListOf } from "../api/server.ts";
import {
  type CreateTemplateBody,
  type DebootstrapSource,
  HOST_TEMPLATE,
  type TemplateDefaults,
  type TemplateResource,
  type TemplateSource,
} from "../api/templates.ts";
import { randomText } from "../base/random-text.ts";
import { TreeDraft } from "../codebases/draft.ts";
import { Filler } from "../codebases/filler.ts";
import { importDir } from "../codebases/import-dir.ts";
import { belongsToRoot } from "../codebases/import-root.ts";
import { importTar } from "../codebases/import-tar.ts";
import type { TemplateRecord, TemplateTree } from "../store/templates.ts";
import type { Token } from "../store/tokens.ts";
import type { Codebases } from "./codebases.ts";
import { createOnce } from "./idempotent.ts";
import type { ServiceParts } from "./parts.ts";
import { tell } from "./tell.ts";

/** What a sandbox of a template is made with. */
export interface TemplateBase {
  readonly id: string;
  readonly root: StoredRoot;
  readonly source: unknown;
  readonly defaults: TemplateDefaults;
}

interface Building {
  readonly stop: AbortController;
  step: string;
  steps: number;
  readonly done: Promise<void>;
}

export class Templates implements AsyncDisposable {
  readonly #parts: ServiceParts;
  readonly #codebases: Codebases;
  readonly #building = new Map<string, Building>();
  /** Packages are installed for one template at a time: each takes a core and the mirror. */
  #installing: Promise<void> = Promise.resolve();

  private constructor(parts: ServiceParts, codebases: Codebases) {
    this.#parts = parts;
    this.#codebases = codebases;
  }

  static async open(parts: ServiceParts, codebases: Codebases): Promise<Templates> {
    const { store, nodeId, host } = parts;
    await rm(host.buildDir, { recursive: true, force: true });
    for (const id of await store.templates.inState(nodeId, "building"))
      await store.templates.change(id, "building", {
        state: "failed",
        reason: "the server ended while it was built; delete it and make it again",
      });
    return new Templates(parts, codebases);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { stop } of this.#building.values()) stop.abort();
    await Promise.all([...this.#building.values()].map(({ done }) => done));
  }

  async create(token: Token, body: CreateTemplateBody, key?: string): Promise<TemplateResource> {
    demandUser(token);
    if (body.shared === true && token.scope !== "admin")
      throw new CorralError("forbidden", "a template for every owner takes a key of scope admin");
    // SAFETY: a directory is read and packages are installed with the server's rights.
    if (body.from !== undefined && !("codebase" in body.from) && token.scope !== "admin")
      throw new CorralError("forbidden", "a template of the server's machine takes a key of scope admin; send a tar, or name a codebase");
    const id = `${ID_PREFIX.template}${randomText(ID_BODY_LENGTH)}`;
    const make = (): Promise<TemplateResource> => this.#createNew(token, id, body);
    return await createOnce(this.#parts, { ownerId: token.ownerId, key, body, id, make, made: (first) => this.get(token, first) });
  }

  async get(token: Token, id: string): Promise<TemplateResource> {
    demandUser(token);
    return id === HOST_TEMPLATE ? HOST : this.#resource(await this.#record(token, id));
  }

  async list(token: Token, page: { readonly limit?: number; readonly cursor?: string } = {}): Promise<ListOf<TemplateResource>> {
    demandUser(token);
    const { items, next } = await this.#parts.store.templates.list({
      ...page,
      ...(token.scope === "admin" ? {} : { ownerId: token.ownerId }),
    });
    const told = items.map((record) => this.#resource(record));
    return next === undefined ? { items: [...told, HOST] } : { items: told, next };
  }

  async importTar(token: Token, id: string, stream: AsyncIterable<Uint8Array>): Promise<TemplateResource> {
    const record = await this.#own(token, id);
    const { store } = this.#parts;
    if (!(await store.templates.change(id, "empty", { state: "building" })))
      throw new CorralError("template_state", `the template ${id} has a root already, or is getting one; make another template`);
    try {
      await this.#fill(record, (filler) => importTar(filler, stream, belongsToRoot));
    } catch (error) {
      await store.templates.change(id, "building", { state: "empty" });
      throw error;
    }
    return await this.get(token, id);
  }

  async delete(token: Token, id: string): Promise<void> {
    const { ownerId } = await this.#own(token, id);
    const building = this.#building.get(id);
    building?.stop.abort();
    await building?.done;
    const users = await this.#parts.store.transaction(({ templates }) => templates.remove(id));
    if (users > 0) throw new CorralError("template_state", `${users} sandboxes and snapshots stand on ${id}; destroy them first`);
    await this.#parts.corral.pool?.forget(id);
    await tell(this.#parts, { id, ownerId }, "template-delete");
    this.#codebases.sweepLater(ownerId);
  }

  /** What a sandbox is to stand on; `undefined`: this machine's programs. */
  async base(token: Token, id: string): Promise<TemplateBase | undefined> {
    if (id === HOST_TEMPLATE) return undefined;
    const record = await this.#record(token, id);
    this.#demandHere(record);
    const { state, tree, reason, ownerId, defaults, source } = record;
    if (state !== "ready" || tree === null)
      throw new CorralError("template_state", `the template ${id} is ${state}${reason === null ? "" : `: ${reason}`}`);
    return { id, source, root: { ownerId, root: tree.root }, defaults: defaults as TemplateDefaults };
  }

  async #createNew(token: Token, id: string, { name, from, defaults = {}, shared = false }: CreateTemplateBody): Promise<TemplateResource> {
    const { store, clock, nodeId, corral } = this.#parts;
    const { ownerId } = token;
    if ((await store.templates.count(ownerId)) >= MAX_TEMPLATES_PER_OWNER)
      throw new CorralError("limit_reached", `${ownerId} has ${MAX_TEMPLATES_PER_OWNER} templates, which is the limit; delete one first`);
    if (typeof defaults.policy === "string") await corral.policies.load(presetName(defaults.policy));
    const common = { id, ownerId, nodeId, name, shared, source: from ?? "empty", defaults, reason: null, createdAt: clock.wallMs() };
    const add = (state: TemplateRecord["state"], tree: TemplateTree | null): Promise<void> =>
      store.templates.add({ ...common, state, tree });
    if (from === undefined) await add("empty", null);
    else if ("codebase" in from) await this.#ofCodebase(token, from.codebase, add);
    else {
      await add("building", null);
      const record = await this.#record(token, id);
      if ("dir" in from) await this.#ofDirectory(record, from.dir);
      else this.#install(record, from.debootstrap);
    }
    await tell(this.#parts, { id, ownerId }, "template-create", { name });
    return await this.get(token, id);
  }

  async #ofCodebase(
    token: Token,
    codebase: { readonly id: string; readonly version?: number },
    add: (state: "ready", tree: TemplateTree) => Promise<void>,
  ): Promise<void> {
    const { record, version } = await this.#codebases.version(token, codebase.id, codebase.version);
    if (record.ownerId !== token.ownerId)
      throw new CorralError(
        "request_invalid",
        `from.codebase: ${codebase.id} is of ${record.ownerId}, and a template is of one owner with its content`,
      );
    const { root, bytes, files, entries } = version;
    // Nothing is swept until the row names the tree.
    await this.#parts.codebases.writing(token.ownerId, () => add("ready", { root, bytes, files, entries }));
  }

  async #ofDirectory(record: TemplateRecord, dir: string): Promise<void> {
    try {
      if (this.#parts.codebases.overlaps(dir))
        throw new CorralError("data_unsafe", "the directory given holds Corral's own data, or lies in it");
      await this.#fill(record, (filler) => importDir(filler, dir, belongsToRoot));
    } catch (error) {
      await this.#parts.store.transaction(({ templates }) => templates.remove(record.id));
      throw error;
    }
  }

  /** In the background; how it goes is told by `get`. */
  #install(record: TemplateRecord, source: DebootstrapSource): void {
    const stop = new AbortController();
    const before = this.#installing;
    const done = before
      .then(() => this.#installNow(record, source, stop.signal))
      .catch((error: unknown) => this.#failed(record, error))
      .finally(() => this.#building.delete(record.id));
    this.#installing = done.catch(() => undefined);
    this.#building.set(record.id, { stop, step: "waiting", steps: 0, done: this.#installing });
  }

  async #installNow(record: TemplateRecord, source: DebootstrapSource, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new CorralError("canceled", "it was stopped before it began");
    const { host } = this.#parts;
    const dir = join(host.buildDir, record.id);
    const onStep = (step: string): void => {
      const building = this.#building.get(record.id);
      if (building === undefined) return;
      building.step = step;
      building.steps += 1;
    };
    const { suite, variant = "minbase", include = [] } = source;
    try {
      await host.debootstrap({ suite, variant, include, dir, onStep, signal });
      onStep("Storing the root");
      await this.#fill(record, (filler) => importDir(filler, dir, belongsToRoot));
      await tell(this.#parts, record, "template-ready");
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  async #failed({ id, ownerId }: TemplateRecord, error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    if (await this.#parts.store.templates.change(id, "building", { state: "failed", reason }))
      await tell(this.#parts, { id, ownerId }, "template-fail", { reason });
  }

  async #fill({ id, ownerId }: TemplateRecord, act: (filler: Filler) => Promise<unknown>): Promise<void> {
    await this.#parts.codebases.writing(ownerId, async ({ objects }) => {
      const draft = await TreeDraft.over(objects);
      await act(new Filler(draft, objects));
      const { hash: root, bytes, files, entries } = await draft.write();
      await objects.flush();
      if (files === 0) throw new CorralError("codebase_unreadable", "the root holds no file; nothing could run in it");
      await this.#parts.store.templates.change(id, "building", { state: "ready", tree: { root, bytes, files, entries } });
    });
  }

  #resource(record: TemplateRecord): TemplateResource {
    const { id, ownerId, name, shared, source, defaults, state, reason, tree, createdAt } = record;
    const building = this.#building.get(id);
    return {
      id,
      ownerId,
      name,
      shared,
      source: source === "empty" && state === "ready" ? "tar" : (source as "empty" | TemplateSource),
      defaults: defaults as TemplateDefaults,
      state,
      ...(state === "building" && building !== undefined ? { progress: { step: building.step, steps: building.steps } } : {}),
      ...(reason === null ? {} : { reason }),
      bytes: tree?.bytes ?? 0,
      files: tree?.files ?? 0,
      createdAt: new Date(createdAt).toISOString(),
    };
  }

  async #record(token: Token, id: string): Promise<TemplateRecord> {
    const record = isId("template", id)
      ? await this.#parts.store.templates.get(id, token.scope === "admin" ? undefined : token.ownerId)
      : undefined;
    if (record === undefined)
      throw new CorralError("template_not_found", `there is no template ${JSON.stringify(id)}; \`${HOST_TEMPLATE}\` is always there`);
    return record;
  }

  /** To change it. */
  async #own(token: Token, id: string): Promise<TemplateRecord> {
    demandUser(token);
    const record = await this.#record(token, id);
    if (token.scope !== "admin" && record.ownerId !== token.ownerId)
      throw new CorralError("forbidden", `the template ${id} is shared by ${record.ownerId}, who alone changes it`);
    this.#demandHere(record);
    return record;
  }

  #demandHere({ id, nodeId }: TemplateRecord): void {
    if (nodeId !== this.#parts.nodeId)
      throw new CorralError("template_state", `the template ${id} lies on ${nodeId}, which this server is not; ask that server`);
  }
}

const HOST: TemplateResource = {
  id: HOST_TEMPLATE,
  ownerId: null,
  name: HOST_TEMPLATE,
  shared: true,
  source: "host",
  defaults: {},
  state: "ready",
  bytes: 0,
  files: 0,
  createdAt: new Date(0).toISOString(),
};

function demandUser({ scope }: Token): void {
  if (scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox reaches no template; use a key of scope user");
}

/** SAFETY: `load` also reads policy files of this machine, so a name from the wire must be that of a preset. */
export function presetName(name: string): string {
  if (!/^[a-z-]+(@\d+)?$/.test(name))
    throw new CorralError("preset_unknown", "policy: no preset has that name; send one of the presets, or rules");
  return name;
}
