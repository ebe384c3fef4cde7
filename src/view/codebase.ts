// Looks at a codebase: one walk, its signature, and the manifest that commit later compares with. No content is read or hashed.
// It judges no path: hidden entries are in the signature and in the manifest, which stay on the host.
// Invariant: two walks have one signature only if every path, type, mode, owner, size, time and inode was the same (for a
// directory: without size, times and link count, which move with its entries), `/.corral-commit-*` aside.

import { createHash } from "node:crypto";
import { createReadStream, existsSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { createZstdDecompress, constants, zstdCompress } from "node:zlib";
import { CorralError } from "../api/errors.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import { unreadable } from "./plan.ts";
import type { RunTool } from "./view.ts";
import { decodeWalk, type WalkEvent } from "./walk.ts";

/** Names directly below the codebase that are Corral's own work: staging of a commit. Never shown, never part of a version. */
export const STAGING_PREFIX = ".corral-commit-";

/** The name of the directory itself, without links. Throws `codebase_not_found` or `codebase_unreadable`. */
export async function locateCodebase(dir: string): Promise<string> {
  const real = await realpath(dir).catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new CorralError("codebase_not_found", `there is no directory ${dir}`, { cause: error });
    throw new CorralError("codebase_unreadable", `cannot look at ${dir}: ${code}`, { cause: error });
  });
  const stats = statSync(real, { throwIfNoEntry: false });
  if (stats === undefined) throw new CorralError("codebase_not_found", `there is no directory ${dir}`);
  if (!stats.isDirectory())
    throw new CorralError("codebase_unreadable", `${dir} is not a directory; name the directory that holds the code`);
  // A page of mount options must hold it; the mount would fail later with a message that names no reason.
  if (Buffer.byteLength(real) > 4000) throw new CorralError("codebase_unreadable", `the path of ${dir} is longer than 4000 bytes`);
  return real;
}

/** One walk under way. `events` may be read once, or not at all; then `finish`. */
export class CodebaseWalk {
  readonly #run: ReturnType<RunTool>;
  readonly #sum = createHash("sha256");
  readonly #kept: Buffer[] = [];
  #begun = false;
  #ended = false;

  constructor(tool: RunTool, dir: string) {
    this.#run = tool(["walk", "--codebase", "--skip", STAGING_PREFIX, dir]);
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    this.#begun = true;
    for await (const chunk of this.#run.stdout) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      this.#sum.update(bytes);
      this.#kept.push(bytes);
      yield bytes;
    }
    await this.#run.done;
    this.#ended = true;
  }

  /** The listings, as they come. */
  events(): AsyncGenerator<WalkEvent[]> {
    return decodeWalk(this.#chunks());
  }

  /** After `events` was read to its end, or instead of it: gives signature and stream. */
  async finish(): Promise<CodebaseVersion> {
    if (!this.#begun) for await (const _ of this.#chunks());
    // A reader that stopped half way would otherwise give half a tree a signature.
    if (!this.#ended) throw new CorralError("internal", "a walk was not read to its end");
    return { signature: this.#sum.digest("hex").slice(0, 40), stream: this.#kept };
  }

  kill(): void {
    this.#run.kill();
    this.#run.done.catch(() => {});
  }
}

export interface CodebaseVersion {
  readonly signature: string;
  /** The walk stream, for reading it again. */
  readonly stream: readonly Buffer[];
}

/** What a mask is made of. */
export interface MaskSource {
  readonly signature: string;
  /** The listings, from the beginning at each call. */
  events(): AsyncIterable<WalkEvent[]>;
  /** Throws when there is nothing to make one of. */
  check(): void;
}

export function sourceOf(version: CodebaseVersion): MaskSource {
  return { signature: version.signature, events: () => replay(version), check: () => checkRoot(version) };
}

/** The listings of a version that was read already. */
async function* replay(version: CodebaseVersion): AsyncGenerator<WalkEvent[]> {
  yield* decodeWalk(pieces(version.stream));
}

async function* pieces(stream: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* stream;
}

const compress = promisify(zstdCompress);

/** Keeps the walk of a version in `dir`, compressed; returns the file. Done once for each version. */
export async function keepManifest(dir: string, version: CodebaseVersion): Promise<string> {
  const file = join(dir, `${version.signature}.walk.zst`);
  if (existsSync(file)) {
    utimesSync(file, new Date(), new Date());
    return file;
  }
  const bytes = await compress(Buffer.concat(version.stream), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  writeFileAtomic(file, bytes);
  return file;
}

/** Removes the manifests that were used longest ago, down to `keep`; none of the last minute, which a delta may be about to take over. */
export function forgetManifests(dir: string, keep: number): void {
  const files = readdirSync(dir).map((name) => ({
    file: join(dir, name),
    at: statSync(join(dir, name), { throwIfNoEntry: false })?.mtimeMs ?? 0,
  }));
  files.sort((a, b) => b.at - a.at);
  for (const { file, at } of files.slice(keep)) if (Date.now() - at > 60_000) rmSync(file, { force: true });
}

/** The listings of a kept manifest. Directories have size, link count and times 0. Throws when the file is cut or damaged. */
export async function* readManifest(file: string): AsyncGenerator<WalkEvent[]> {
  const compressed = createReadStream(file);
  const bytes = createZstdDecompress();
  compressed.on("error", (error) => bytes.destroy(error));
  try {
    yield* decodeWalk(compressed.pipe(bytes));
  } finally {
    compressed.destroy();
  }
}

/** Throws when the walked directory itself could not be opened: then its entry, the first record, carries the errno. */
function checkRoot(version: CodebaseVersion): void {
  const errno = version.stream[0]?.readUInt16LE(6) ?? 0;
  if (errno !== 0) throw unreadable("", errno);
}
