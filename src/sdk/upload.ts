// Uploads a tree: hashes first, then only the contents that the server lacks, in parts that a cut connection does not undo. Works over
// every client that has the calls, the local one too. It reads no disk: entries come from whoever knows them.
// Invariant: a version appears at the end or not at all; what a content hashes to now is what was told of it, or the upload is refused.

import type { ChangeOptions, CodebaseCalls, CodebaseResource, UploadContent, UploadEntry } from "../api/codebases.ts";
import { CorralError } from "../api/errors.ts";

export interface TreeEntry extends Omit<UploadEntry, "hash" | "size"> {
  /** Of a file: its bytes; asked for once to hash them unless `hash` and `size` are told, and again when the server lacks them. */
  readonly content?: () => Promise<Uint8Array> | Uint8Array;
  /** SHA-256 of the content, hex, where it is known. */
  readonly hash?: string;
  readonly size?: number;
}

export interface UploadProgress {
  readonly files: number;
  /** Contents that the server had not. */
  readonly missing: number;
  readonly sent: number;
}

export interface UploadTreeOptions extends ChangeOptions {
  readonly onProgress?: (progress: UploadProgress) => void;
}

/** Contents of one request, bytes; one larger content goes alone. */
const PART_BYTES = 8 * 1024 ** 2;

export async function uploadTree(
  codebases: CodebaseCalls,
  codebaseId: string,
  tree: AsyncIterable<TreeEntry> | Iterable<TreeEntry>,
  options: UploadTreeOptions = {},
): Promise<CodebaseResource> {
  const { onProgress, expectedVersion, ...call } = options;
  const contents = new Map<string, () => Promise<Uint8Array> | Uint8Array>();
  const entries: UploadEntry[] = [];
  for await (const entry of tree) {
    const { content, ...told } = entry;
    if (entry.type !== "file") entries.push(told);
    else {
      const known = await hashed(entry);
      contents.set(known.hash, content ?? (() => new Uint8Array(0)));
      entries.push({ ...told, ...known });
    }
  }
  const { id, missing } = await codebases.uploads.begin(codebaseId, { entries }, call);
  const progress = { files: contents.size, missing: missing.length };
  let sent = 0;
  onProgress?.({ ...progress, sent });
  for await (const part of parts(missing, contents)) {
    await codebases.uploads.send(codebaseId, id, part, call);
    onProgress?.({ ...progress, sent: (sent += part.length) });
  }
  return await codebases.uploads.commit(codebaseId, id, { ...call, ...(expectedVersion === undefined ? {} : { expectedVersion }) });
}

async function hashed({ path, hash, size, content }: TreeEntry): Promise<{ readonly hash: string; readonly size: number }> {
  if (hash !== undefined && size !== undefined) return { hash, size };
  if (content === undefined)
    throw new CorralError("request_invalid", `the file ${JSON.stringify(path)} has neither content nor hash and size`);
  const bytes = await content();
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return { hash: [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join(""), size: bytes.length };
}

async function* parts(
  missing: readonly string[],
  contents: ReadonlyMap<string, () => Promise<Uint8Array> | Uint8Array>,
): AsyncGenerator<readonly UploadContent[]> {
  let part: UploadContent[] = [];
  let size = 0;
  for (const hash of missing) {
    const content = await (contents.get(hash) ?? (() => new Uint8Array(0)))();
    if (part.length > 0 && size + content.length > PART_BYTES) {
      yield part;
      [part, size] = [[], 0];
    }
    part.push({ hash, content });
    size += content.length;
  }
  if (part.length > 0) yield part;
}
