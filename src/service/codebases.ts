// Codebases of many owners: who may reach which, how many there may be, and every change of one as a new version. The bytes are src/codebases'.
// Invariant: a codebase of another owner is as one that never was; a change becomes a version whole or not at all; what a sandbox stands
// on or a kept delta was made over is not removed.

import { realpath } from "node:fs/promises";
import type { ChangeOptions, CodebaseResource, CodebaseSource, CodebaseVersion, CreateCodebaseBody } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { MAX_CODEBASE_VERSIONS, MAX_PAGE_ITEMS, MAX_TOLD_CHANGES } from "../api/limits.ts";
import type { StoredBase } from "../api/sandbox.ts";
import type { ListOf } from "../api/server.ts";
import { randomText } from "../base/random-text.ts";
import { EMPTY_ROOT, PathTakenError, TreeDraft } from "../codebases/draft.ts";
import { demandEntries, Filler } from "../codebases/filler.ts";
import { importDir } from "../codebases/import-dir.ts";
import { importTar } from "../codebases/import-tar.ts";
import { type DirNode, namesOfPath } from "../codebases/nodes.ts";
import { type OwnerObjects, rootNode } from "../codebases/store.ts";
import type { Heads } from "../codebases/stored.ts";
import { toBytes } from "../policy/bytes.ts";
import type { CodebaseRecord, ListCodebases, VersionRecord } from "../store/codebases.ts";
import type { Token } from "../store/tokens.ts";
import { codebaseHeads } from "./codebase-heads.ts";
import { CodebaseSweep } from "./codebase-sweep.ts";
import { createOnce } from "./idempotent.ts";
import { GitSources } from "./git-sources.ts";
import type { FetchedTree, ServiceParts } from "./parts.ts";
import { tell } from "./tell.ts";

export type Change = Omit<ChangeOptions, "signal">;

export class Codebases implements AsyncDisposable {
  readonly #parts: ServiceParts;
  readonly #heads: Heads;
  readonly #sweep: CodebaseSweep;
  readonly #git: GitSources;

  private constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#heads = codebaseHeads(parts);
    this.#sweep = new CodebaseSweep(parts);
    this.#git = new GitSources(parts);
  }

  static async open(parts: ServiceParts): Promise<Codebases> {
    const codebases = new Codebases(parts);
    await codebases.#sweep.begin();
    return codebases;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sweep[Symbol.asyncDispose]();
  }

  async create(token: Token, body: CreateCodebaseBody, key?: string): Promise<CodebaseResource> {
    demandOwner(token);
    this.#demandSource(token, body.from);
    const id = `${ID_PREFIX.codebase}${randomText(ID_BODY_LENGTH)}`;
    const made = async (first: string): Promise<CodebaseResource> => {
      const record = await this.#parts.store.codebases.get(first, token.ownerId);
      if (record === undefined)
        throw new CorralError("codebase_state", "the create with this idempotency key is still under way; try again");
      return resource(record);
    };
    return await createOnce(this.#parts, { ownerId: token.ownerId, key, body, id, make: () => this.#createNew(token, id, body), made });
  }

  async get(token: Token, id: string): Promise<CodebaseResource> {
    return resource(await this.#record(token, id));
  }

  async list(token: Token, request: Omit<ListCodebases, "ownerId">): Promise<ListOf<CodebaseResource>> {
    demandOwner(token);
    const owner = token.scope === "admin" ? {} : { ownerId: token.ownerId };
    const { items, next } = await this.#parts.store.codebases.list({ ...request, ...owner });
    return { items: items.map((record) => resource(record)), ...(next === undefined ? {} : { next }) };
  }

  async versions(
    token: Token,
    id: string,
    { limit = MAX_PAGE_ITEMS, cursor }: { readonly limit?: number; readonly cursor?: string } = {},
  ): Promise<ListOf<CodebaseVersion>> {
    await this.#record(token, id);
    if (cursor !== undefined && !/^\d{1,9}$/.test(cursor))
      throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
    const found = await this.#parts.store.codebases.versions(id, {
      limit: limit + 1,
      ...(cursor === undefined ? {} : { before: Number(cursor) }),
    });
    const items = found.slice(0, limit).map(versionResource);
    const last = items.at(-1);
    return found.length <= limit || last === undefined ? { items } : { items, next: String(last.number) };
  }

  async delete(token: Token, id: string): Promise<void> {
    const record = await this.reach(token, id);
    const kept = await this.#sweep.keptOver(id);
    if (kept.length > 0)
      throw new CorralError(
        "codebase_state",
        `a kept delta was made over ${id} (of the sandbox ${kept[0]?.sandboxId}); commit or discard it first`,
      );
    const users = await this.#parts.store.transaction(({ codebases }) => codebases.remove(id));
    if (users > 0) throw new CorralError("codebase_state", `${users} sandboxes and snapshots stand on ${id}; destroy them first`);
    await tell(this.#parts, record, "codebase-delete");
    this.#sweep.later(record.ownerId);
  }

  /** What the owner has on the disk and nothing needs goes soon. */
  sweepLater(ownerId: string): void {
    this.#sweep.later(ownerId);
  }

  /** For reading and changing: on this server's disk. */
  async reach(token: Token, id: string): Promise<CodebaseRecord> {
    const record = await this.#record(token, id);
    if (record.nodeId !== this.#parts.nodeId)
      throw new CorralError("codebase_state", `the codebase ${id} lies on ${record.nodeId}, which this server is not; ask that server`);
    return record;
  }

  /** The version that was asked for, or the current one. */
  async version(token: Token, id: string, number?: number): Promise<{ readonly record: CodebaseRecord; readonly version: VersionRecord }> {
    const record = await this.reach(token, id);
    const version = number === undefined ? record.current : await this.#parts.store.codebases.version(id, number);
    if (version === undefined)
      throw new CorralError("codebase_not_found", `the codebase ${id} has no version ${number}: it never was, or is forgotten`);
    return { record, version };
  }

  /** What a sandbox is to stand on. */
  async base(token: Token, { id, version: number }: { readonly id: string; readonly version?: number }): Promise<StoredBase> {
    const { record, version } = await this.version(token, id, number);
    return { codebaseId: id, version: version.number, ownerId: record.ownerId, root: version.root };
  }

  async put(token: Token, id: string, file: PutFile, change: Change = {}): Promise<CodebaseResource> {
    const { content, path, mode } = file;
    const names = demandPath(path);
    const seconds = Math.floor(this.#parts.clock.wallMs() / 1000);
    const record = await this.reach(token, id);
    return await this.#parts.codebases.writing(record.ownerId, async (owner) => {
      const blob = await owner.objects.putBlob({ content });
      return await this.#change(record, owner, { ...change, source: "put" }, async (draft) => {
        const old = await draft.get(names);
        await draft.put(names, { kind: "file", seconds, ns: 0, mode: mode ?? (old?.kind === "file" ? old.mode : 0o644), ...blob });
      });
    });
  }

  async remove(token: Token, id: string, path: string, change: Change = {}): Promise<CodebaseResource> {
    const names = demandPath(path);
    const record = await this.reach(token, id);
    return await this.#parts.codebases.writing(record.ownerId, (owner) =>
      this.#change(record, owner, { ...change, source: "delete" }, async (draft) => {
        if (!(await draft.remove(names))) throw new CorralError("file_not_found", `nothing stands at ${JSON.stringify(path)} in ${id}`);
      }),
    );
  }

  async importTar(token: Token, id: string, stream: AsyncIterable<Uint8Array>, change: Change = {}): Promise<CodebaseResource> {
    const record = await this.reach(token, id);
    return await this.#parts.codebases.writing(record.ownerId, async (owner) => {
      const tree = await filled(owner, (filler) => importTar(filler, stream));
      return resource(await this.replace(record, tree, { ...change, source: "tar" }));
    });
  }

  async importFrom(token: Token, id: string, source: CodebaseSource, change: Change = {}): Promise<CodebaseResource> {
    this.#demandSource(token, source);
    const record = await this.reach(token, id);
    await using fetched = await this.#fetched(source);
    return await this.#parts.codebases.writing(record.ownerId, async (owner) => {
      const { tree, skipped, told } = await this.#read(owner, source, fetched);
      return resource(await this.replace(record, tree, { ...change, source: told }), skipped);
    });
  }

  /** The tree becomes the current version. Call it where nothing is swept meanwhile. */
  async replace(record: CodebaseRecord, tree: DirNode, change: Change & { readonly source: string }): Promise<CodebaseRecord> {
    for (;;) {
      const { number } = await this.#current(record.id, change);
      if (await this.#heads.add(record.id, { expected: number, tree, source: change.source })) break;
    }
    return await this.#changed(record, change.source);
  }

  async #change(
    record: CodebaseRecord,
    { objects }: OwnerObjects,
    change: Change & { readonly source: string },
    act: (draft: TreeDraft) => Promise<void>,
  ): Promise<CodebaseResource> {
    for (;;) {
      const current = await this.#current(record.id, change);
      const draft = await TreeDraft.over(objects, rootNode(current));
      await act(draft).catch((error: unknown) => {
        throw error instanceof PathTakenError ? new CorralError("request_invalid", `path: ${error.message}`, { cause: error }) : error;
      });
      demandEntries(draft);
      const tree = await draft.write();
      await objects.flush();
      if (await this.#heads.add(record.id, { expected: current.number, tree, source: change.source })) break;
    }
    return resource(await this.#changed(record, change.source));
  }

  async #current(id: string, { expectedVersion }: Change): Promise<VersionRecord> {
    const now = await this.#parts.store.codebases.get(id);
    if (now === undefined) throw notFound(id);
    const { current } = now;
    if (expectedVersion !== undefined && current.number !== expectedVersion)
      throw new CorralError(
        "codebase_state",
        `version ${expectedVersion} of ${id} was expected to be the current one, but ${current.number} is`,
      );
    return current;
  }

  async #changed(record: CodebaseRecord, source: string): Promise<CodebaseRecord> {
    const now = await this.#parts.store.codebases.get(record.id);
    if (now === undefined) throw notFound(record.id);
    await tell(this.#parts, record, "codebase-version", { version: now.current.number, source });
    if (now.current.number <= MAX_CODEBASE_VERSIONS) return now;
    const used = (await this.#sweep.keptOver(record.id)).map(({ stored }) => stored.version);
    this.#sweep.forgot(record.ownerId, await this.#parts.store.codebases.prune(record.id, MAX_CODEBASE_VERSIONS, used));
    return now;
  }

  async #createNew({ ownerId }: Token, id: string, { name, labels = {}, from }: CreateCodebaseBody): Promise<CodebaseResource> {
    const { store, clock, nodeId, quotas, codebases } = this.#parts;
    if ((await store.codebases.count(ownerId)) >= quotas.codebases)
      throw new CorralError("limit_reached", `${ownerId} has ${quotas.codebases} codebases, which is the limit; delete one first`);
    await using fetched = await this.#fetched(from);
    return await codebases.writing(ownerId, async (owner) => {
      const { tree, skipped, told } = await this.#read(owner, from, fetched);
      const { hash: root, bytes, files, entries } = tree;
      const version = { root, bytes, files, entries, source: told };
      const record = { id, ownerId, nodeId, name, labels, createdAt: clock.wallMs() };
      await store.transaction((tables) => tables.codebases.add(record, version));
      const made = await store.codebases.get(id);
      if (made === undefined) throw notFound(id);
      await tell(this.#parts, made, "codebase-create", { name });
      return resource(made, skipped);
    });
  }

  /** Before the owner's store is held: a fetch takes its time. */
  async #fetched(source: CodebaseSource | undefined): Promise<FetchedTree | undefined> {
    return source !== undefined && "git" in source ? await this.#git.fetch(source.git) : undefined;
  }

  async #read(owner: OwnerObjects, source: CodebaseSource | undefined, fetched: FetchedTree | undefined): Promise<ReadTree> {
    if (fetched !== undefined)
      return { tree: await filled(owner, (filler) => importTar(filler, fetched.tar())), skipped: [], told: `git ${fetched.commit}` };
    if (source === undefined || "git" in source) return { tree: EMPTY_ROOT, skipped: [], told: "empty" };
    const { dir } = source;
    const place = await realpath(dir).catch(() => dir);
    if (this.#parts.codebases.overlaps(place))
      throw new CorralError("data_unsafe", "the directory given holds Corral's own data, or lies in it; import another one");
    let skipped: readonly string[] = [];
    const tree = await filled(owner, async (filler) => void (skipped = await importDir(filler, place)));
    return { tree, skipped, told: "directory" };
  }

  #demandSource(token: Token, source: CodebaseSource | undefined): void {
    if (source === undefined) return;
    if ("git" in source) return this.#git.demand(token, source.git);
    // SAFETY: whoever may name a directory reads it with the server's rights.
    if (token.scope !== "admin")
      throw new CorralError("forbidden", "an import from the server's machine takes a key of scope admin; upload the files instead");
  }

  async #record(token: Token, id: string): Promise<CodebaseRecord> {
    demandOwner(token);
    const record = isId("codebase", id)
      ? await this.#parts.store.codebases.get(id, token.scope === "admin" ? undefined : token.ownerId)
      : undefined;
    if (record === undefined) throw notFound(id);
    return record;
  }
}

interface ReadTree {
  readonly tree: DirNode;
  readonly skipped: readonly string[];
  /** The version's source. */
  readonly told: string;
}

export interface PutFile {
  readonly path: string;
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  readonly mode?: number;
}

async function filled({ objects }: OwnerObjects, act: (filler: Filler) => Promise<void>): Promise<DirNode> {
  const draft = await TreeDraft.over(objects);
  await act(new Filler(draft, objects));
  const tree = await draft.write();
  await objects.flush();
  return tree;
}

function demandOwner({ scope }: Token): void {
  if (scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox reaches no codebase; use a key of scope user");
}

/** The names of a path from the wire. */
export function demandPath(path: string): readonly string[] {
  const names = namesOfPath(toBytes(path));
  if (names === undefined || names.length === 0)
    throw new CorralError(
      "request_invalid",
      "path: no path inside a codebase: relative to its root, without .., names of at most 255 bytes",
    );
  return names;
}

function notFound(id: string): CorralError {
  return new CorralError("codebase_not_found", `there is no codebase ${JSON.stringify(id)}`);
}

function resource(record: CodebaseRecord, skipped: readonly string[] = []): CodebaseResource {
  const { id, ownerId, name, labels, createdAt, updatedAt, current } = record;
  const times = { createdAt: new Date(createdAt).toISOString(), updatedAt: new Date(updatedAt).toISOString() };
  const left = skipped.length === 0 ? {} : { skipped: skipped.slice(0, MAX_TOLD_CHANGES) };
  return { id, ownerId, name, labels, ...times, version: versionResource(current), ...left };
}

function versionResource({ number, root, bytes, files, entries, source, createdAt }: VersionRecord): CodebaseVersion {
  return { number, root, bytes, files, entries, source, createdAt: new Date(createdAt).toISOString() };
}
