// The bytes of the worker `files` (guest/PROTOCOL.md, Workers): requests out, answers in. Knows no path's meaning and no error's.
// Invariant: what is decoded was checked to the last byte; anything that a correct worker could not say throws a Lie.

const FRAME_HEAD_BYTES = 12;
const REQUEST_HEAD_BYTES = 24;
const ENTRY_BYTES = 48;

export const OP = {
  stat: 1,
  list: 2,
  get: 3,
  read: 4,
  close: 5,
  put: 6,
  create: 7,
  write: 8,
  commit: 9,
  mkdir: 10,
  move: 11,
  remove: 12,
  set: 13,
  symlink: 14,
  link: 15,
  setxattr: 16,
} as const;

export const FLAG = {
  nofollow: 1,
  xattrs: 2,
  keep: 4,
  exclusive: 8,
  parents: 16,
  mode: 32,
  append: 64,
  at: 128,
  recursive: 256,
  mtime: 512,
  unset: 1024,
} as const;

export const ANSWER = { ok: 64, error: 65 } as const;

export interface WireRequest {
  readonly op: number;
  readonly flags?: number;
  readonly mode?: number;
  readonly count?: number;
  readonly handle?: number;
  readonly offset?: number | bigint;
  /** Bytes without a NUL. */
  readonly base?: Uint8Array;
  readonly path?: Uint8Array;
  readonly other?: Uint8Array;
  readonly data?: Uint8Array;
}

export interface WireEntry {
  readonly type: "file" | "dir" | "link" | "other";
  readonly name: Buffer;
  readonly target: Buffer;
  /** It could not be looked at. */
  readonly errno: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
}

/** The worker said what it cannot say. */
export class Lie extends Error {}

const NONE = Buffer.alloc(0);
const TYPES = ["file", "dir", "link", "other", "other", "other", "other"] as const;

export function encode(id: number, request: WireRequest): Buffer {
  const { op, flags = 0, mode = 0, count = 0, handle = 0, offset = 0, data = NONE } = request;
  const strings = [request.base ?? NONE, request.path ?? NONE, request.other ?? NONE];
  const length = strings.reduce((sum, { length: bytes }) => sum + bytes + 1, REQUEST_HEAD_BYTES + data.length);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + length);
  frame.writeUInt32LE(length, 0);
  frame.writeUInt32LE(id, 4);
  frame.writeUInt32LE(op, 8); // and three zero bytes
  frame.writeUInt32LE(flags, 12);
  frame.writeUInt32LE(mode, 16);
  frame.writeUInt32LE(count, 20);
  frame.writeUInt32LE(handle, 24);
  frame.writeBigUInt64LE(BigInt(offset), 28);
  let at = FRAME_HEAD_BYTES + REQUEST_HEAD_BYTES;
  for (const bytes of strings) {
    frame.set(bytes, at);
    frame[at + bytes.length] = 0;
    at += bytes.length + 1;
  }
  frame.set(data, at);
  return frame;
}

/** Walks one answer's body. */
export class AnswerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#move(1));
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#move(4));
  }

  bytes(count: number): Buffer {
    const at = this.#move(count);
    return this.#bytes.subarray(at, at + count);
  }

  rest(): Buffer {
    return this.bytes(this.left);
  }

  end(): void {
    if (this.left !== 0) throw new Lie(`${this.left} bytes too many`);
  }

  /** `named`: of a listing. */
  entry(named: boolean): WireEntry {
    const at = this.#move(ENTRY_BYTES);
    const bytes = this.#bytes;
    const type = TYPES[bytes.readUInt8(at)];
    const [names, targets] = [bytes.readUInt16LE(at + 2), bytes.readUInt16LE(at + 4)];
    const [name, target] = [this.bytes(names), this.bytes(targets)];
    const size = bytes.readBigInt64LE(at + 24);
    const seconds = bytes.readBigInt64LE(at + 32);
    const mtimeNs = bytes.readUInt32LE(at + 40);
    if (type === undefined || size < 0n || mtimeNs >= 1_000_000_000 || bytes.readUInt32LE(at + 8) > 0o7777)
      throw new Lie("an entry that no file has");
    if (named ? !isName(name) : name.length > 0) throw new Lie("an entry whose name is none");
    if (targets > 0 && type !== "link") throw new Lie("a target of what is no link");
    return {
      type,
      name,
      target,
      errno: bytes.readUInt16LE(at + 6),
      mode: bytes.readUInt32LE(at + 8),
      uid: bytes.readUInt32LE(at + 12),
      gid: bytes.readUInt32LE(at + 16),
      size: Number(size),
      mtimeSeconds: Number(seconds),
      mtimeNs,
    };
  }

  #move(count: number): number {
    if (count > this.left) throw new Lie("an answer that is too short");
    this.#at += count;
    return this.#at - count;
  }
}

function isName(name: Buffer): boolean {
  if (name.length === 0 || name.length > 255 || name.includes(0) || name.includes(0x2f)) return false;
  return !name.equals(DOT) && !name.equals(DOTS);
}

const DOT = Buffer.from(".");
const DOTS = Buffer.from("..");
