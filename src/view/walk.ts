// Reads the walk stream of the guest's `walk` tool (guest/PROTOCOL.md, Tools). It looks at no disk and judges no path.
// Names, paths and link targets are latin1 strings: one character is one byte, so nothing is lost on names that are not UTF-8.
// Invariant: a stream that was cut, or that breaks the grammar, throws; it never looks like a smaller tree.

import { CorralError } from "../api/errors.ts";
import type { EntryKind } from "../api/policy.ts";

/** One entry. All fields but `name` and `kind` are 0 when `errno` is not. */
export interface WalkEntry {
  /** latin1; empty for the root. */
  readonly name: string;
  readonly kind: EntryKind;
  /** Why the entry could not be looked at; 0 = it could. ENOENT: it vanished while the directory was read. */
  readonly errno: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly ino: number;
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
  readonly ctimeSeconds: number;
  readonly ctimeNs: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** Another file system is mounted here; its content is not listed. */
  readonly mountPoint: boolean;
  /** latin1; only for `link`. */
  readonly target: string;
  /** Values are latin1. Absent when none was asked for or found. */
  readonly xattrs?: ReadonlyMap<string, string>;
  /** Where the content of a file lies in the base, when not at its own path. No walk of a directory tells one. */
  readonly place?: string;
}

/** `dir`: a whole listing, before anything below it. `leave`: everything below that directory has been told. */
export type WalkEvent =
  | {
      readonly event: "dir";
      /** latin1, `""` for the root, else begins with `/`. */
      readonly path: string;
      readonly entry: WalkEntry;
      /** Index of `entry` in the listing of its parent. */
      readonly index: number;
      /** Why the directory could not be listed; then `entries` is empty. */
      readonly errno: number;
      readonly entries: readonly WalkEntry[];
    }
  | { readonly event: "leave"; readonly path: string };

/** Called with bytes of records that are complete, before their chunk is let go; for hashing and keeping what was read. */
export type OnRecords = (bytes: Buffer) => void;

const KINDS: readonly EntryKind[] = ["file", "dir", "link", "other"];
const ENTRY = 1;
const DIR = 2;
const LEAVE = 3;
const END = 4;
const ENTRY_HEAD = 80;
const HIGH = 0x1_0000_0000;
/** Inode numbers are told by their lower 53 bits: some file systems use all 64, which a number cannot hold. */
const INO_HIGH = 0x1f_ffff;
/** A record longer than this is no record: 64 KiB each of name and target, 256 KiB of xattrs, and the head. */
const MAX_RECORD = 1 << 19;

interface OpenDir {
  readonly path: string;
  readonly entry: WalkEntry;
  readonly index: number;
  readonly errno: number;
  readonly entries: WalkEntry[];
  /** Entries of the listing still to come. */
  missing: number;
}

function broken(why: string): CorralError {
  return new CorralError("internal", `the walk stream is broken: ${why}`);
}

function xattrsOf(bytes: Buffer, from: number, to: number): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  let at = from;
  while (at < to) {
    if (at + 6 > to) throw broken("an attribute is cut");
    const name = at + 6;
    const value = name + bytes.readUInt16LE(at);
    const end = value + bytes.readUInt32LE(at + 2);
    if (end > to) throw broken("an attribute is longer than its record");
    found.set(bytes.toString("latin1", name, value), bytes.toString("latin1", value, end));
    at = end;
  }
  return found;
}

/** Decodes the stream piece by piece; pieces may be cut anywhere. */
export class WalkDecoder {
  #rest: Buffer = Buffer.alloc(0);
  /** The bytes at hand as one string: slicing names out of it is several times faster than decoding each. */
  #text = "";
  #open: OpenDir[] = [];
  #root: WalkEntry | undefined;
  #entries = 0;
  #ended = false;
  readonly #onRecords: OnRecords | undefined;

  constructor(options: { readonly onRecords?: OnRecords } = {}) {
    this.#onRecords = options.onRecords;
  }

  /** The entry of the walked directory itself, once its bytes are in. */
  get root(): WalkEntry | undefined {
    return this.#root;
  }

  /** Returns what the bytes complete. The events are the caller's to keep; the bytes are not. */
  push(chunk: Uint8Array): WalkEvent[] {
    const bytes = this.#joined(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    const events: WalkEvent[] = [];
    this.#text = bytes.toString("latin1");
    let at = 0;
    while (at < bytes.length) {
      const next = this.#record(bytes, at, events);
      if (next === 0) break;
      at = next;
    }
    if (at > 0) this.#onRecords?.(bytes.subarray(0, at));
    // A copy: the reader may use the chunk's memory again.
    this.#rest = Buffer.from(bytes.subarray(at));
    if (this.#rest.length > MAX_RECORD) throw broken("a record is too long");
    return events;
  }

  /** What was left over, and the new bytes behind it. */
  #joined(given: Buffer): Buffer {
    if (this.#rest.length === 0) return given;
    const joined = Buffer.allocUnsafe(this.#rest.length + given.length);
    this.#rest.copy(joined);
    given.copy(joined, this.#rest.length);
    return joined;
  }

  /** Must be called at the end of the stream. */
  end(): void {
    if (!this.#ended || this.#rest.length > 0) throw broken("it ends early");
  }

  /** Reads one record; returns where the next begins, or 0 when the bytes do not hold it whole. */
  #record(bytes: Buffer, at: number, events: WalkEvent[]): number {
    if (this.#ended) throw broken("bytes follow its end");
    const left = bytes.length - at;
    switch (bytes[at]) {
      case ENTRY:
        return left < ENTRY_HEAD ? 0 : this.#entry(bytes, at, events);
      case DIR:
        return left < 12 ? 0 : this.#dir(bytes, at, events);
      case LEAVE: {
        if (left < 4) return 0;
        const dir = this.#open.pop();
        if (dir === undefined || dir.missing > 0) throw broken("a directory ends early");
        events.push({ event: "leave", path: dir.path });
        return at + 4;
      }
      case END: {
        if (left < 12) return 0;
        const told = bytes.readUInt32LE(at + 4) + bytes.readUInt32LE(at + 8) * HIGH;
        if (told !== this.#entries || this.#open.length > 0 || this.#root === undefined) throw broken("its count is wrong");
        this.#ended = true;
        return at + 12;
      }
      default:
        throw broken(`a record of type ${bytes[at]}`);
    }
  }

  #dir(bytes: Buffer, at: number, events: WalkEvent[]): number {
    const parent = this.#open.at(-1);
    const index = bytes.readUInt32LE(at + 4);
    const entry = parent === undefined ? this.#root : parent.entries[index];
    if (entry === undefined || entry.kind !== "dir" || (parent?.missing ?? 0) > 0) throw broken("a listing of no directory");
    const missing = bytes.readUInt32LE(at + 8);
    const path = parent === undefined ? "" : `${parent.path}/${entry.name}`;
    const dir: OpenDir = { path, entry, index, errno: bytes.readUInt16LE(at + 2), entries: [], missing };
    this.#open.push(dir);
    if (missing === 0) events.push(listed(dir));
    return at + 12;
  }

  #entry(bytes: Buffer, at: number, events: WalkEvent[]): number {
    const nameBytes = bytes.readUInt16LE(at + 2);
    const targetBytes = bytes.readUInt16LE(at + 4);
    const xattrBytes = bytes.readUInt32LE(at + 76);
    const name = at + ENTRY_HEAD;
    const target = name + nameBytes;
    const xattrs = target + targetBytes;
    const end = xattrs + xattrBytes;
    if (end - at > MAX_RECORD) throw broken("a record is too long");
    if (end > bytes.length) return 0;
    const entry: WalkEntry = {
      name: this.#text.slice(name, target),
      kind: KINDS[bytes[at + 1] as number] ?? "other",
      errno: bytes.readUInt16LE(at + 6),
      mode: bytes.readUInt32LE(at + 8),
      uid: bytes.readUInt32LE(at + 12),
      gid: bytes.readUInt32LE(at + 16),
      nlink: bytes.readUInt32LE(at + 20),
      size: bytes.readUInt32LE(at + 24) + bytes.readUInt32LE(at + 28) * HIGH,
      ino: bytes.readUInt32LE(at + 32) + (bytes.readUInt32LE(at + 36) & INO_HIGH) * HIGH,
      mtimeSeconds: bytes.readUInt32LE(at + 40) + bytes.readInt32LE(at + 44) * HIGH,
      ctimeSeconds: bytes.readUInt32LE(at + 48) + bytes.readInt32LE(at + 52) * HIGH,
      mtimeNs: bytes.readUInt32LE(at + 56),
      ctimeNs: bytes.readUInt32LE(at + 60),
      rdevMajor: bytes.readUInt32LE(at + 64),
      rdevMinor: bytes.readUInt32LE(at + 68),
      mountPoint: (bytes.readUInt32LE(at + 72) & 1) !== 0,
      target: targetBytes === 0 ? "" : this.#text.slice(target, xattrs),
    };
    this.#entries += 1;
    this.#place(xattrBytes === 0 ? entry : { ...entry, xattrs: xattrsOf(bytes, xattrs, end) }, events);
    return end;
  }

  #place(entry: WalkEntry, events: WalkEvent[]): void {
    const dir = this.#open.at(-1);
    if (dir === undefined) {
      if (this.#root !== undefined) throw broken("an entry in no directory");
      this.#root = entry;
      return;
    }
    if (dir.missing === 0 || entry.name === "" || entry.name.includes("/")) throw broken("an entry that belongs nowhere");
    dir.entries.push(entry);
    dir.missing -= 1;
    if (dir.missing === 0) events.push(listed(dir));
  }
}

function listed(dir: OpenDir): WalkEvent {
  return { event: "dir", path: dir.path, entry: dir.entry, index: dir.index, errno: dir.errno, entries: dir.entries };
}

/** Decodes a whole stream, a batch of events for each chunk. Throws when it was cut. */
export async function* decodeWalk(
  chunks: AsyncIterable<Uint8Array>,
  options: { readonly onRecords?: OnRecords } = {},
): AsyncGenerator<WalkEvent[]> {
  const decoder = new WalkDecoder(options);
  for await (const chunk of chunks) {
    const events = decoder.push(chunk);
    if (events.length > 0) yield events;
  }
  decoder.end();
}
