// Fills a draft from a tar stream, plain or compressed with gzip or zstd. The stream may be hostile: see base/tar-reader.ts for what is
// refused before an entry comes here. Links stay links, and nobody follows them outside of a sandbox.
// Invariant: what is unpacked is counted as it comes, so an archive that grows without end is refused at the owner's limit.

import { PassThrough, pipeline, Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { CorralError } from "../api/errors.ts";
import { MAX_CODEBASE_BYTES_PER_OWNER, MAX_CODEBASE_ENTRIES } from "../api/limits.ts";
import { readTar, TarError } from "../base/tar-reader.ts";
import { type Filler, refused } from "./filler.ts";

/** Headers and padding of as many entries as may be. */
const MAX_STREAM_BYTES = MAX_CODEBASE_BYTES_PER_OWNER + MAX_CODEBASE_ENTRIES * 2_048;

/** What does not `belong` is left out. Throws `codebase_unreadable` for an archive that is malformed or holds what cannot be. */
export async function importTar(
  filler: Filler,
  stream: AsyncIterable<Uint8Array>,
  belongs: (path: string) => boolean = () => true,
): Promise<void> {
  try {
    for await (const entry of readTar(bounded(unpacked(stream)))) {
      const { path, type, mode, mtimeSeconds: seconds, mtimeNs: ns, size, target } = entry;
      if (!belongs(path)) continue;
      if (type === "special") throw refused(path, "is a device or a FIFO");
      else if (type === "file") await filler.file(path, { mode, seconds, ns, size, content: entry.content() });
      else if (type === "link") await filler.link(path, { target, seconds, ns });
      else if (type === "hardlink") await filler.again(path, target);
      else await filler.dir(path, { mode, seconds, ns });
    }
    await filler.settled();
  } catch (error) {
    throw told(error);
  } finally {
    await filler.quiet();
  }
}

function told(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const why = error instanceof TarError ? error.message : undefined;
  if (why !== undefined)
    return new CorralError("codebase_unreadable", `the archive is refused: ${why}; nothing was imported`, { cause: error });
  if (typeof code === "string" && /^(Z_|ZSTD_|ERR_ZLIB|ERR_BUFFER)/.test(code))
    return new CorralError("codebase_unreadable", "the archive is damaged: it cannot be decompressed; nothing was imported", {
      cause: error,
    });
  return error;
}

async function* bounded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > MAX_STREAM_BYTES) throw new CorralError("limit_reached", "the archive unpacks to more bytes than an owner may have");
    yield chunk;
  }
}

/** By its first bytes: gzip, zstd, or as it is. */
async function* unpacked(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < 4) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const rest = following(head, iterator);
  const decoder = decoderOf(head);
  if (decoder === undefined) yield* rest;
  else yield* through(rest, decoder);
}

async function* following(head: Buffer, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

function decoderOf(head: Buffer): NodeJS.ReadWriteStream | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return createGunzip();
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528 ? createZstdDecompress() : undefined;
}

async function* through(chunks: AsyncIterable<Uint8Array>, decoder: NodeJS.ReadWriteStream): AsyncGenerator<Uint8Array> {
  const out = pipeline(Readable.from(chunks, { objectMode: false }), decoder, new PassThrough(), () => undefined);
  // An error of any of the three destroys the last, whose iterator throws it.
  for await (const chunk of out) yield chunk as Buffer;
}
