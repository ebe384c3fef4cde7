// Blobs and listings of one owner on disk, each under the SHA-256 of its bytes. Two owners share nothing: whoever could ask for a hash of
// another's would learn, and get, what the other has. Blobs lie as they are, not compressed: sandboxes read them where they lie, as
// the data layer of their view. Listings are compressed. Not a judge of what is still needed: that is sweep.ts's.
// Invariant: what has its name has its bytes (a kill leaves drafts aside); after `flush` it survives a power loss too.

import { createHash } from "node:crypto";
import { createReadStream, type ReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { CorralError } from "../api/errors.ts";
import { randomText } from "../base/random-text.ts";
import { blobPlace, decodeListing, encodeListing, isHash, type Listing, type TreeNode } from "./nodes.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Larger listings are nobody's: entries are bounded long before. */
const MAX_LISTING_BYTES = 512 * 1024 ** 2;
/** Files that are put out at once: the file system takes many for the price of one. */
const FLUSH_AT_ONCE = 16;
/** Hash of the empty listing, which is there without being written. */
export const EMPTY_LISTING = createHash("sha256").digest("hex");

/** Content up to this size is hashed before a byte is written: most of it is there already. */
const WHOLE_BYTES = 1024 ** 2;

export interface PutBlob {
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** What it was said to be; something else is refused. */
  readonly hash?: string;
  readonly size?: number;
}

export interface PutResult {
  readonly hash: string;
  readonly size: number;
}

export class ObjectStore {
  readonly blobs: string;
  readonly #listings: string;
  readonly #drafts: string;
  /** Files with names since the last flush. */
  readonly #fresh = new Set<string>();
  readonly #quotaBytes: number;
  #usedBytes: Promise<number> | undefined;

  constructor(dir: string, quotaBytes: number) {
    this.#quotaBytes = quotaBytes;
    this.blobs = join(dir, "blobs");
    this.#listings = join(dir, "listings");
    this.#drafts = join(dir, "drafts");
  }

  blobFile(hash: string): string {
    // SAFETY: the hash is joined to a path; one that is spelled like one cannot climb.
    if (!isHash(hash)) throw new CorralError("internal", "a hash of a blob is none");
    return `${this.blobs}${blobPlace(hash)}`;
  }

  /** By size as well: what a power loss took away counts as missing, and can be sent again. */
  async hasBlob(hash: string, size: number): Promise<boolean> {
    const stats = await stat(this.blobFile(hash)).catch(() => undefined);
    return stats?.size === size;
  }

  /** Throws `limit_reached` (the owner's bytes), `request_invalid` (it is not what it was said to be), `disk_full`. */
  async putBlob(put: PutBlob): Promise<PutResult> {
    const left = this.#quotaBytes - (await this.usedBytes());
    if (put.size !== undefined && put.size <= WHOLE_BYTES) return await this.#putWhole(put, left);
    const draft = await this.#draft();
    try {
      const result = await fill(draft.handle, put, left);
      await draft.handle.close();
      await this.#keep(draft.file, result);
      return result;
    } catch (error) {
      await draft.handle.close().catch(() => undefined);
      await rm(draft.file, { force: true });
      throw asDiskFull(error);
    }
  }

  async #putWhole({ content, ...said }: PutBlob, left: number): Promise<PutResult> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of content) {
      pieces.push(piece);
      size += piece.length;
      if (size > WHOLE_BYTES) throw unlike(said, size);
    }
    const bytes = Buffer.concat(pieces);
    const hash = createHash("sha256").update(bytes).digest("hex");
    demand(said, { hash, size });
    if (await this.hasBlob(hash, size)) return { hash, size };
    if (size > left) throw full();
    await this.#keep(await this.#write(bytes), { hash, size });
    return { hash, size };
  }

  readBlob(hash: string): ReadStream {
    return createReadStream(this.blobFile(hash));
  }

  async putListing(listing: Iterable<readonly [string, TreeNode]>): Promise<string> {
    const bytes = encodeListing(listing);
    const hash = createHash("sha256").update(bytes).digest("hex");
    const file = join(this.#listings, blobPlace(hash));
    if (hash === EMPTY_LISTING || (await stat(file).catch(() => undefined)) !== undefined) return hash;
    await this.#name(await this.#write(await compress(bytes, LEVEL)), file);
    return hash;
  }

  async getListing(hash: string): Promise<Listing> {
    const bytes = await decompress(await readFile(join(this.#listings, blobPlace(hash))), { maxOutputLength: MAX_LISTING_BYTES });
    return decodeListing(bytes);
  }

  /** Bytes of all blobs; counted once, then kept up. */
  usedBytes(): Promise<number> {
    this.#usedBytes ??= this.#measure();
    return this.#usedBytes;
  }

  /** Everything that was put until now is on the disk when it resolves. */
  async flush(): Promise<void> {
    const files = [...this.#fresh];
    this.#fresh.clear();
    const dirs = new Set(files.flatMap((file) => [dirname(file), dirname(dirname(file))]));
    const left = [...files, ...dirs].values();
    await Promise.all(
      Array.from({ length: FLUSH_AT_ONCE }, async () => {
        for (const path of left) await sync(path);
      }),
    );
  }

  /** Removes what `needed` does not name. For a caller who knows that nobody puts anything meanwhile. */
  async sweep(needed: { readonly blobs: ReadonlySet<string>; readonly listings: ReadonlySet<string> }): Promise<void> {
    await rm(this.#drafts, { recursive: true, force: true });
    for (const [dir, keep] of [
      [this.blobs, needed.blobs],
      [this.#listings, needed.listings],
    ] as const)
      for await (const { file, hash } of objects(dir)) if (!keep.has(hash)) await rm(file, { force: true });
    this.#usedBytes = undefined;
    this.#fresh.clear();
  }

  async #measure(): Promise<number> {
    let bytes = 0;
    for await (const { file } of objects(this.blobs)) bytes += (await stat(file).catch(() => undefined))?.size ?? 0;
    return bytes;
  }

  async #draft(): Promise<{ readonly file: string; readonly handle: FileHandle }> {
    const file = join(this.#drafts, randomText(20));
    // Read by all: in a view the server's own rights read it, and the mask says who else may.
    const handle = await open(file, "wx", 0o444).catch(async () => {
      await mkdir(this.#drafts, { recursive: true, mode: 0o700 });
      return await open(file, "wx", 0o444);
    });
    return { file, handle };
  }

  /** The bytes in a draft; its name. */
  async #write(bytes: Uint8Array): Promise<string> {
    const { file, handle } = await this.#draft();
    try {
      await handle.writeFile(bytes);
      return file;
    } catch (error) {
      await rm(file, { force: true });
      throw asDiskFull(error);
    } finally {
      await handle.close();
    }
  }

  /** A draft becomes the blob, unless that is there. */
  async #keep(draft: string, { hash, size }: PutResult): Promise<void> {
    if (await this.hasBlob(hash, size)) return await rm(draft, { force: true });
    if (this.#usedBytes !== undefined) this.#usedBytes = this.#usedBytes.then((used) => used + size);
    await this.#name(draft, this.blobFile(hash));
  }

  async #name(draft: string, file: string): Promise<void> {
    await rename(draft, file).catch(async () => {
      await mkdir(dirname(file), { recursive: true, mode: 0o755 });
      await rename(draft, file);
    });
    this.#fresh.add(file);
  }
}

async function fill(handle: FileHandle, { content, ...said }: PutBlob, left: number): Promise<PutResult> {
  const sum = createHash("sha256");
  let size = 0;
  for await (const chunk of content) {
    size += chunk.length;
    if (said.size !== undefined && size > said.size) throw unlike(said, size);
    if (size > left) throw full();
    sum.update(chunk);
    for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at)).bytesWritten;
  }
  const result = { hash: sum.digest("hex"), size };
  demand(said, result);
  return result;
}

function demand(said: Omit<PutBlob, "content">, { hash, size }: PutResult): void {
  if ((said.hash ?? hash) !== hash || (said.size ?? size) !== size) throw unlike(said, size);
}

function unlike({ hash, size }: Omit<PutBlob, "content">, got: number): CorralError {
  const what = hash === undefined ? `${size} bytes` : `the content of hash ${hash}`;
  return new CorralError("request_invalid", `${what} was announced, and something else of ${got} bytes came; it changed while it was read`);
}

function full(): CorralError {
  return new CorralError("limit_reached", "the codebases of this owner have taken all the bytes that they may take; delete some of them");
}

async function* objects(dir: string): AsyncGenerator<{ readonly file: string; readonly hash: string }> {
  for (const shard of await readdir(dir).catch(() => []))
    for (const rest of await readdir(join(dir, shard)).catch(() => [])) yield { file: join(dir, shard, rest), hash: `${shard}${rest}` };
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined);
  // What was swept meanwhile is needed by nobody.
  if (handle === undefined) return;
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function asDiskFull(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new CorralError("disk_full", "the disk that holds the data directory is full; free some space", { cause: error });
}
