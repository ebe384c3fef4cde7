// Texts of Loom by their hash: inputs, replies, receipts, files of a canon. Kept with whom they belong to, so that removing a session takes
// them along and nobody can learn by a hash what others keep. Invariant: a text is what its hash says, or reading it fails.

import { createHash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { CorralError } from "../api/errors.ts";
import { LOOM_MAX_BLOB_BYTES } from "../api/limits.ts";
import type { Sql } from "./loom-sql.ts";

export interface Blobs {
  /** Keeps texts for `owner`, a session or a world; the hash of each, in order. */
  put(owner: string, texts: readonly string[]): Promise<readonly string[]>;
  /** Throws `internal` when it is not there or damaged. */
  get(owner: string, hash: string): Promise<string>;
  /** Those that are there, by hash. */
  many(owner: string, hashes: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

/** Shorter texts are kept as they are. */
const PACK_FROM_BYTES = 200;
const ASKED_AT_ONCE = 500;

interface BlobRow {
  readonly hash: string;
  readonly codec: string;
  readonly body: Uint8Array;
}

/** SHA-256, base64url. */
export function textHash(text: string | Uint8Array): string {
  return createHash("sha256").update(text).digest("base64url");
}

export function blobsOf(sql: Sql): Blobs {
  const many = async (owner: string, hashes: readonly string[]): Promise<ReadonlyMap<string, string>> => {
    const found = new Map<string, string>();
    const wanted = [...new Set(hashes)];
    for (let from = 0; from < wanted.length; from += ASKED_AT_ONCE) {
      const part = wanted.slice(from, from + ASKED_AT_ONCE);
      const places = part.map(() => "?").join(", ");
      const rows = await sql.all<BlobRow>(`select hash, codec, body from loom_blob where owner = ? and hash in (${places})`, [
        owner,
        ...part,
      ]);
      for (const row of rows) found.set(row.hash, unpacked(row));
    }
    return found;
  };
  return {
    put: async (owner, texts) => {
      const rows = texts.map((text) => packed(owner, text));
      await sql.insert("loom_blob", rows, "skip");
      return rows.map(({ hash }) => hash);
    },
    get: async (owner, hash) => {
      const text = (await many(owner, [hash])).get(hash);
      if (text === undefined) throw new CorralError("internal", `the text ${hash} of ${owner} is not in the store`);
      return text;
    },
    many,
  };
}

function packed(owner: string, text: string) {
  const bytes = Buffer.from(text, "utf8");
  const small = bytes.length < PACK_FROM_BYTES;
  return {
    owner,
    hash: textHash(bytes),
    codec: small ? "raw" : "zstd",
    size: bytes.length,
    body: small ? bytes : zstdCompressSync(bytes),
  };
}

function unpacked({ hash, codec, body }: BlobRow): string {
  const bytes = codec === "raw" ? body : zstdDecompressSync(body, { maxOutputLength: LOOM_MAX_BLOB_BYTES });
  if (textHash(bytes) !== hash) throw new CorralError("internal", `the text ${hash} in the store is damaged`);
  return Buffer.from(bytes).toString("utf8");
}
