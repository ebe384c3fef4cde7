// Uploads of whole trees, of which only what the server lacks is sent: a tree is told by its hashes, contents come in any number of requests,
// then it becomes a version. Invariant: nothing of an upload is seen before its commit, and a commit is refused while anything is missing;
// what arrived whole need not be sent again; only contents that the told tree names are taken.

import type { BeginUploadBody, CodebaseResource, UploadEntry, UploadResource } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { MAX_UPLOADS_PER_OWNER, UPLOAD_MS } from "../api/limits.ts";
import { randomText } from "../base/random-text.ts";
import { PathTakenError, TreeDraft } from "../codebases/draft.ts";
import { demandEntries } from "../codebases/filler.ts";
import { isHash } from "../codebases/nodes.ts";
import type { ObjectStore } from "../codebases/objects.ts";
import { entriesBelow } from "../codebases/read.ts";
import { type OwnerObjects, rootNode } from "../codebases/store.ts";
import { listUploads, readUpload, removeUpload, type UploadRecord, writeUpload } from "../codebases/upload-record.ts";
import { toBytes } from "../policy/bytes.ts";
import type { CodebaseRecord } from "../store/codebases.ts";
import type { Token } from "../store/tokens.ts";
import { type Change, type Codebases, demandPath } from "./codebases.ts";
import type { ServiceParts } from "./parts.ts";

/** One content as it comes in. */
export interface IncomingContent {
  readonly hash: string;
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Files that are looked for at once. */
const LOOKS_AT_ONCE = 8;

interface Open {
  readonly record: CodebaseRecord;
  readonly owner: OwnerObjects;
  readonly upload: UploadRecord;
}

export class Uploads {
  readonly #parts: ServiceParts;
  readonly #codebases: Codebases;
  /** Sizes by hash of the trees that contents are being sent for. */
  readonly #told = new Map<string, ReadonlyMap<string, number>>();

  constructor(parts: ServiceParts, codebases: Codebases) {
    this.#parts = parts;
    this.#codebases = codebases;
  }

  async begin(token: Token, codebaseId: string, { entries }: BeginUploadBody): Promise<UploadResource> {
    const record = await this.#codebases.reach(token, codebaseId);
    const now = this.#parts.clock.wallMs();
    return await this.#parts.codebases.writing(record.ownerId, async (owner) => {
      if (listUploads(owner.uploads, now - UPLOAD_MS).length >= MAX_UPLOADS_PER_OWNER)
        throw new CorralError(
          "limit_reached",
          `${record.ownerId} has ${MAX_UPLOADS_PER_OWNER} uploads under way, which is the limit; commit or abandon one`,
        );
      const draft = await TreeDraft.over(owner.objects);
      for (const entry of entries) await put(draft, entry, now);
      const { hash: root, bytes, files, entries: count } = await draft.write();
      const upload = {
        id: `${ID_PREFIX.upload}${randomText(ID_BODY_LENGTH)}`,
        codebaseId,
        createdAt: now,
        tree: { root, bytes, files, entries: count },
      };
      await writeUpload(owner.uploads, upload);
      return await this.#resource({ record, owner, upload });
    });
  }

  async get(token: Token, codebaseId: string, uploadId: string): Promise<UploadResource> {
    return await this.#resource(await this.#open(token, codebaseId, uploadId));
  }

  async send(token: Token, codebaseId: string, uploadId: string, contents: AsyncIterable<IncomingContent>): Promise<void> {
    const { record, upload } = await this.#open(token, codebaseId, uploadId);
    await this.#parts.codebases.writing(record.ownerId, async ({ objects }) => {
      const told = await this.#sizes(objects, upload);
      for await (const { hash, size, content } of contents) {
        if (told.get(hash) !== size)
          throw new CorralError(
            "request_invalid",
            `no file of this upload has ${size} bytes of the hash ${hash}; send what was told as missing`,
          );
        await objects.putBlob({ content, hash, size });
      }
    });
  }

  async commit(token: Token, codebaseId: string, uploadId: string, change: Change = {}): Promise<CodebaseResource> {
    const open = await this.#open(token, codebaseId, uploadId);
    const { record, upload } = open;
    await this.#parts.codebases.writing(record.ownerId, async ({ objects, uploads }) => {
      const missing = await this.#missing(open);
      if (missing.length > 0)
        throw new CorralError(
          "codebase_state",
          `${missing.length} contents of the upload ${uploadId} are missing, the first is ${missing[0]}; send them first`,
        );
      await objects.flush();
      await this.#codebases.replace(record, rootNode(upload.tree), { ...change, source: "upload" });
      removeUpload(uploads, uploadId);
    });
    this.#told.delete(uploadId);
    return await this.#codebases.get(token, codebaseId);
  }

  async abandon(token: Token, codebaseId: string, uploadId: string): Promise<void> {
    const { owner } = await this.#open(token, codebaseId, uploadId);
    removeUpload(owner.uploads, uploadId);
    this.#told.delete(uploadId);
  }

  async #open(token: Token, codebaseId: string, uploadId: string): Promise<Open> {
    const record = await this.#codebases.reach(token, codebaseId);
    const owner = this.#parts.codebases.of(record.ownerId);
    const upload = readUpload(owner.uploads, uploadId);
    if (upload?.codebaseId !== codebaseId)
      throw new CorralError(
        "upload_not_found",
        `there is no upload ${JSON.stringify(uploadId)}: it was committed, abandoned or forgotten; begin a new one`,
      );
    return { record, owner, upload };
  }

  async #resource(open: Open): Promise<UploadResource> {
    const { id, codebaseId, createdAt } = open.upload;
    const times = { createdAt: new Date(createdAt).toISOString(), endAt: new Date(createdAt + UPLOAD_MS).toISOString() };
    return { id, codebaseId, ...times, missing: await this.#missing(open) };
  }

  async #missing({ owner: { objects }, upload }: Open): Promise<readonly string[]> {
    const missing: string[] = [];
    const told = (await this.#sizes(objects, upload)).entries();
    await Promise.all(
      Array.from({ length: LOOKS_AT_ONCE }, async () => {
        for (const [hash, size] of told) if (!(await objects.hasBlob(hash, size))) missing.push(hash);
      }),
    );
    return missing.sort();
  }

  async #sizes(objects: ObjectStore, { id, tree }: UploadRecord): Promise<ReadonlyMap<string, number>> {
    const known = this.#told.get(id);
    if (known !== undefined) return known;
    const sizes = new Map<string, number>();
    for await (const { path, node } of entriesBelow(objects, rootNode(tree), { path: "", deep: true })) {
      if (node.kind !== "file") continue;
      if ((sizes.get(node.hash) ?? node.size) !== node.size)
        throw new CorralError("request_invalid", `entries: the content of ${JSON.stringify(path)} was told with another size before`);
      sizes.set(node.hash, node.size);
    }
    if (this.#told.size >= MAX_UPLOADS_PER_OWNER) this.#told.clear();
    this.#told.set(id, sizes);
    return sizes;
  }
}

async function put(draft: TreeDraft, entry: UploadEntry, now: number): Promise<void> {
  const { path, type, mtimeMs = now, mode = type === "dir" ? 0o755 : 0o644, size, hash, target = "" } = entry;
  const names = demandPath(path);
  const seconds = Math.floor(mtimeMs / 1000);
  const times = { seconds, ns: Math.round((mtimeMs - seconds * 1000) * 1e6) % 1e9 };
  try {
    if (type === "dir") await draft.putDir(names, { mode: mode & 0o777, ...times });
    else if (type === "link") await draft.put(names, { kind: "link", target: linkTarget(path, target), ...times }, { fresh: true });
    else if (size === undefined || hash === undefined || !isHash(hash))
      throw new CorralError(
        "request_invalid",
        `entries: the file ${JSON.stringify(path)} needs its size and the SHA-256 of its content, hex`,
      );
    else await draft.put(names, { kind: "file", mode: mode & 0o777, size, hash, ...times }, { fresh: true });
  } catch (error) {
    if (error instanceof PathTakenError)
      throw new CorralError("request_invalid", `entries: ${JSON.stringify(path)} cannot be put in its place: ${error.message}`, {
        cause: error,
      });
    throw error;
  }
  demandEntries(draft);
}

function linkTarget(path: string, target: string): string {
  const bytes = toBytes(target);
  if (bytes === "" || bytes.length > 4_095 || bytes.includes("\0"))
    throw new CorralError("request_invalid", `entries: the link ${JSON.stringify(path)} needs a target of 1 to 4095 bytes`);
  return bytes;
}
