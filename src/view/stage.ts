// Speaks to the guest's `stage` tool (guest/PROTOCOL.md, Tools): what stands at a path, whether contents are equal, contents.
// It decides nothing and opens nothing itself: in rootless mode the files of a delta belong to ids that Node.js cannot read.
// Paths are latin1 strings that begin with `/`; the tool gets them without it. Invariant: one answer per request, in order; an
// answer that breaks the grammar throws.

import { CorralError } from "../api/errors.ts";
import type { EntryKind } from "../api/policy.ts";
import { printable } from "../policy/bytes.ts";
import type { RunTool, ToolRun } from "./view.ts";
import type { WalkEntry } from "./walk.ts";

/** What a path was at one moment. Times in ns. */
export interface Signature {
  readonly kind: EntryKind;
  readonly mode: number;
  readonly ino: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export const SIGNATURE_BYTES = 40;
const KIND_BYTES: Readonly<Record<EntryKind, number>> = { file: 0x66, dir: 0x64, link: 0x6c, other: 0x6f };
const PROBE_BYTES = 56;
const CAT_HEAD_BYTES = 32;
const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;

export function signatureOf(entry: WalkEntry): Signature {
  return {
    kind: entry.kind,
    mode: entry.mode & 0o7777,
    ino: entry.ino,
    size: entry.size,
    mtimeNs: nanoseconds(entry.mtimeSeconds, entry.mtimeNs),
    ctimeNs: nanoseconds(entry.ctimeSeconds, entry.ctimeNs),
  };
}

function nanoseconds(seconds: number, ns: number): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(ns);
}

/** Whether the person's tree still holds what it held: a directory's size and times move with its entries and say nothing. */
export function isSame(a: Signature | undefined, b: Signature | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.kind !== b.kind || a.ino !== b.ino || a.mode !== b.mode) return false;
  return a.kind === "dir" || (a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs);
}

export function encodeSignature(signature: Signature | undefined, into: Buffer, at: number): void {
  into.fill(0, at, at + SIGNATURE_BYTES);
  if (signature === undefined) return;
  into[at] = KIND_BYTES[signature.kind];
  into.writeUInt32LE(signature.mode, at + 4);
  into.writeBigUInt64LE(BigInt(signature.ino), at + 8);
  into.writeBigUInt64LE(BigInt(signature.size), at + 16);
  into.writeBigInt64LE(signature.mtimeNs, at + 24);
  into.writeBigInt64LE(signature.ctimeNs, at + 32);
}

export function decodeSignature(from: Buffer, at: number): Signature | undefined {
  const kind = kindOf(from[at]);
  if (kind === undefined) return undefined;
  return {
    kind,
    mode: from.readUInt32LE(at + 4),
    ino: inodeAt(from, at + 8),
    size: Number(from.readBigUInt64LE(at + 16)),
    mtimeNs: from.readBigInt64LE(at + 24),
    ctimeNs: from.readBigInt64LE(at + 32),
  };
}

/** The lower 53 bits, as walk.ts and the tool take them. */
function inodeAt(bytes: Buffer, at: number): number {
  return Number(BigInt.asUintN(53, bytes.readBigUInt64LE(at)));
}

function kindOf(byte: number | undefined): EntryKind | undefined {
  return (Object.keys(KIND_BYTES) as EntryKind[]).find((kind) => KIND_BYTES[kind] === byte);
}

/** A path as the tool takes it: relative bytes. */
export function toolPath(path: string): Buffer {
  return Buffer.from(path.startsWith("/") ? path.slice(1) : path, "latin1");
}

export function broken(why: string): CorralError {
  return new CorralError("internal", `the stage tool broke its grammar: ${why}`);
}

/** What a tool writes. When it failed, its own message comes before any complaint that the stream was cut. */
export async function* outputOf(run: ToolRun): AsyncGenerator<Uint8Array> {
  yield* run.stdout;
  await run.done;
}

/** Takes exact numbers of bytes from a stream of chunks. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** `undefined` at a clean end. Throws when the stream ends inside. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#rest.length < length) {
      const next = await this.#chunks.next();
      if (next.done === true) {
        if (this.#rest.length === 0) return undefined;
        throw broken("its answer is cut");
      }
      // A copy: a chunk is the reader's only until the next one is asked for.
      this.#rest = Buffer.concat([this.#rest, next.value]);
    }
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }

  async need(length: number): Promise<Buffer> {
    const taken = await this.take(length);
    if (taken === undefined && length > 0) throw broken("an answer is missing");
    return taken ?? Buffer.alloc(0);
  }
}

/** Joins small requests into chunks, so that 10^5 of them are not 10^5 frames. */
export async function* inChunks(parts: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const most = 32 * 1024;
  let pending: Buffer[] = [];
  let bytes = 0;
  for await (const part of parts) {
    pending.push(part);
    bytes += part.length;
    if (bytes < most) continue;
    yield Buffer.concat(pending);
    pending = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(pending);
}

/** What stands at each of `paths` below `root` now; `undefined` where nothing does. */
export async function probe(tool: RunTool, root: string, paths: readonly string[]): Promise<(Signature | undefined)[]> {
  if (paths.length === 0) return [];
  const run = tool(["stage", "probe", root], inChunks(requests(paths)));
  const reader = new ByteReader(outputOf(run));
  const found: (Signature | undefined)[] = [];
  try {
    for (const path of paths) {
      const answer = await reader.need(PROBE_BYTES);
      const errno = answer[1] ?? 0;
      if (errno !== 0 && errno !== ENOENT && errno !== ENOTDIR && errno !== ELOOP) {
        throw new CorralError("codebase_unreadable", `cannot look at ${printable(path)} (errno ${errno})`);
      }
      found.push(errno === 0 ? probed(answer) : undefined);
    }
  } catch (error) {
    run.kill();
    await run.done.catch(() => undefined);
    throw error;
  }
  await run.done;
  return found;
}

function probed(answer: Buffer): Signature {
  const kind = kindOf(answer[0]);
  if (kind === undefined) throw broken("an unknown kind");
  return {
    kind,
    mode: answer.readUInt32LE(4),
    ino: inodeAt(answer, 16),
    size: Number(answer.readBigUInt64LE(24)),
    mtimeNs: answer.readBigInt64LE(32),
    ctimeNs: answer.readBigInt64LE(40),
  };
}

function* requests(paths: readonly string[]): Generator<Buffer> {
  for (const path of paths) {
    const bytes = toolPath(path);
    yield Buffer.concat([u16(bytes.length), bytes]);
  }
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

/** For each pair, whether both files hold the same bytes. A file that cannot be read throws. */
export async function compare(
  tool: RunTool,
  roots: readonly [string, string],
  pairs: readonly (readonly [string, string])[],
): Promise<boolean[]> {
  if (pairs.length === 0) return [];
  const run = tool(["stage", "compare", ...roots], inChunks(pairRequests(pairs)));
  const reader = new ByteReader(outputOf(run));
  const answers: boolean[] = [];
  try {
    for (const [path] of pairs) {
      const answer = (await reader.need(1))[0];
      if (answer !== 0 && answer !== 1) throw new CorralError("delta_malformed", `cannot read ${printable(path)} (errno ${answer})`);
      answers.push(answer === 0);
    }
  } catch (error) {
    run.kill();
    await run.done.catch(() => undefined);
    throw error;
  }
  await run.done;
  return answers;
}

function* pairRequests(pairs: readonly (readonly [string, string])[]): Generator<Buffer> {
  for (const pair of pairs) {
    const [a, b] = [toolPath(pair[0]), toolPath(pair[1])];
    yield Buffer.concat([u16(a.length), u16(b.length), a, b]);
  }
}

/** Where content lies: in the delta's own layer or in the base. */
export interface Source {
  readonly root: "upper" | "base";
  readonly path: string;
}

/** Where content of the codebase lies in the base, by its path in the codebase: a stored codebase keeps it by its hash. */
export type PlaceOf = (path: string) => string;

/** A stream of contents asked for one after the other; one tool process serves all. */
export class Contents {
  readonly #queue: Buffer[] = [];
  #wake: () => void = () => undefined;
  #ended = false;
  readonly #run: ReturnType<RunTool>;
  readonly #reader: ByteReader;
  readonly #placeOf: PlaceOf;

  constructor({ tool, upper, base }: { readonly tool: RunTool; readonly upper: string; readonly base: string }, placeOf: PlaceOf) {
    this.#placeOf = placeOf;
    this.#run = tool(["stage", "cat", upper, base], this.#requests());
    this.#reader = new ByteReader(outputOf(this.#run));
  }

  async *#requests(): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) yield next;
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The bytes of a file or the target of a link, at most `most`. Must be read to its end before the next is asked for. */
  async *read(source: Source, most = Number.MAX_SAFE_INTEGER): AsyncGenerator<Buffer> {
    const path = toolPath(source.root === "base" ? this.#placeOf(source.path) : source.path);
    const head = Buffer.alloc(12);
    head[0] = source.root === "upper" ? 0 : 1;
    head.writeUInt16LE(path.length, 2);
    head.writeBigUInt64LE(BigInt(most), 4);
    this.#queue.push(Buffer.concat([head, path]));
    this.#wake();
    const answer = await this.#reader.need(CAT_HEAD_BYTES);
    const errno = answer[0] ?? 0;
    if (errno !== 0) throw unreadable(source, errno);
    for (;;) {
      const length = (await this.#reader.need(4)).readUInt32LE(0);
      if (length === 0) break;
      yield await this.#reader.need(length);
    }
    const failed = (await this.#reader.need(4)).readUInt32LE(0);
    if (failed !== 0) throw unreadable(source, failed);
  }

  async close(): Promise<void> {
    this.#ended = true;
    this.#wake();
    await this.#run.done;
  }

  /** Ends the tool without reading on; for a caller that gives up. */
  async abandon(): Promise<void> {
    this.#ended = true;
    this.#wake();
    this.#run.kill();
    await this.#run.done.catch(() => undefined);
  }
}

function unreadable(source: Source, errno: number): CorralError {
  const where = source.root === "upper" ? "the delta" : "the codebase";
  return new CorralError(
    source.root === "upper" ? "delta_malformed" : "commit_conflict",
    `cannot read ${printable(source.path)} of ${where} (errno ${errno}); it changed while it was read`,
  );
}
