// What stands in a version of a codebase: its entries, page by page, the bytes of a file, all of it as a tar. Who may reach it is asked of
// Codebases. Invariant: names leave as they are, or say that they are not text; a page begins behind the last entry of the one before.

import type { CodebaseEntry, EntriesOptions } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";
import { MAX_ENTRIES_PAGE } from "../api/limits.ts";
import type { ListOf } from "../api/server.ts";
import { type DirNode, namesOfPath, type TreeNode } from "../codebases/nodes.ts";
import type { ObjectStore } from "../codebases/objects.ts";
import { entriesBelow, findNode, type PlacedNode, tarOf } from "../codebases/read.ts";
import { rootNode } from "../codebases/store.ts";
import { toBytes } from "../policy/bytes.ts";
import type { Token } from "../store/tokens.ts";
import { type Codebases, demandPath } from "./codebases.ts";
import type { ServiceParts } from "./parts.ts";

export class CodebaseReads {
  readonly #parts: ServiceParts;
  readonly #codebases: Codebases;

  constructor(parts: ServiceParts, codebases: Codebases) {
    this.#parts = parts;
    this.#codebases = codebases;
  }

  async entries(token: Token, id: string, options: Omit<EntriesOptions, "signal"> = {}): Promise<ListOf<CodebaseEntry>> {
    const { path = "", recursive = false, cursor, version } = options;
    const limit = Math.min(options.limit ?? MAX_ENTRIES_PAGE, MAX_ENTRIES_PAGE);
    const { objects, root } = await this.#open(token, id, version);
    const names = namesOfPath(toBytes(path));
    if (names === undefined) throw new CorralError("request_invalid", "path: no path inside a codebase");
    const dir = await findNode(objects, root, names);
    if (dir === undefined) return { items: [] };
    if (dir.kind !== "dir") throw new CorralError("request_invalid", `path: ${JSON.stringify(path)} is a ${dir.kind}; name a directory`);
    const after = cursor === undefined ? undefined : afterOf(cursor);
    const items: CodebaseEntry[] = [];
    let last: string | undefined;
    for await (const placed of entriesBelow(objects, dir, {
      path: names.join("/"),
      deep: recursive,
      ...(after === undefined ? {} : { after }),
    })) {
      if (items.length === limit) return { items, next: cursorOf(last ?? "", names.length) };
      items.push(entryOf(placed));
      last = placed.path;
    }
    return { items };
  }

  async *read(token: Token, id: string, path: string, version?: number): AsyncGenerator<Uint8Array> {
    const names = demandPath(path);
    const { objects, root } = await this.#open(token, id, version);
    const node = await findNode(objects, root, names);
    if (node?.kind !== "file") throw new CorralError("file_not_found", `there is no file ${JSON.stringify(path)} in ${id}${told(node)}`);
    // An empty file has an empty stream, which begins nevertheless.
    for await (const chunk of objects.readBlob(node.hash)) yield chunk as Buffer;
  }

  async *tar(token: Token, id: string, version?: number): AsyncGenerator<Uint8Array> {
    const { objects, root } = await this.#open(token, id, version);
    yield* tarOf(objects, root);
  }

  async #open(token: Token, id: string, number: number | undefined): Promise<{ readonly objects: ObjectStore; readonly root: DirNode }> {
    const { record, version } = await this.#codebases.version(token, id, number);
    return { objects: this.#parts.codebases.of(record.ownerId).objects, root: rootNode(version) };
  }
}

function told(node: TreeNode | undefined): string {
  return node === undefined ? "" : `; a ${node.kind} stands there`;
}

/** The names of the last entry, below the directory that is listed. */
function cursorOf(path: string, depth: number): string {
  return Buffer.from(path.split("/").slice(depth).join("/"), "latin1").toString("base64url");
}

function afterOf(cursor: string): readonly string[] {
  const names = namesOfPath(Buffer.from(cursor, "base64url").toString("latin1"));
  if (names === undefined || names.length === 0)
    throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
  return names;
}

function entryOf({ path, node }: PlacedNode): CodebaseEntry {
  const bytes = Buffer.from(path, "latin1");
  const text = bytes.toString("utf8");
  return {
    path: text,
    ...(toBytes(text) === path ? {} : { pathBytes: bytes.toString("base64") }),
    type: node.kind,
    size: node.kind === "file" ? node.size : node.kind === "dir" ? node.bytes : node.target.length,
    ...(node.kind === "link" ? { target: Buffer.from(node.target, "latin1").toString("utf8") } : { mode: node.mode }),
    modifiedAt: new Date(node.seconds * 1000 + Math.floor(node.ns / 1e6)).toISOString(),
    ...(node.kind === "file" ? { hash: node.hash } : {}),
  };
}
