// A small client of the worker `files` for tests: requests as bytes, answers as they come. Not the host's: that one trusts nothing it is told.

import { type Client, FLAG, frame, REQUEST, type Running } from "./guest.ts";

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
export const FILES = {
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

export interface FilesRequest {
  readonly flags?: number;
  readonly mode?: number;
  readonly count?: number;
  readonly handle?: number;
  readonly offset?: number;
  readonly base?: string;
  readonly path?: string;
  readonly other?: string;
  readonly data?: Uint8Array | string;
}

export interface Entry {
  readonly kind: number;
  readonly name: string;
  readonly target: string;
  readonly errno: number;
  readonly mode: number;
  readonly size: number;
  readonly mtimeNs: bigint;
}

/** Strings are taken as bytes (latin1). */
export function filesBody(request: FilesRequest): Buffer {
  const head = Buffer.alloc(24);
  head.writeUInt32LE(request.flags ?? 0, 0);
  head.writeUInt32LE(request.mode ?? 0, 4);
  head.writeUInt32LE(request.count ?? 0, 8);
  head.writeUInt32LE(request.handle ?? 0, 12);
  head.writeBigUInt64LE(BigInt(request.offset ?? 0), 16);
  const strings = [request.base ?? "", request.path ?? "", request.other ?? ""].map((text) => `${text}\0`).join("");
  return Buffer.concat([head, Buffer.from(strings, "latin1"), Buffer.from(request.data ?? "")]);
}

export function entries(bytes: Buffer): Entry[] {
  const found: Entry[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [names, targets] = [bytes.readUInt16LE(at + 2), bytes.readUInt16LE(at + 4)];
    const text = bytes.subarray(at + 48, at + 48 + names + targets).toString("latin1");
    found.push({
      kind: bytes.readUInt8(at),
      errno: bytes.readUInt16LE(at + 6),
      mode: bytes.readUInt32LE(at + 8),
      size: Number(bytes.readBigUInt64LE(at + 24)),
      mtimeNs: bytes.readBigInt64LE(at + 32) * 1_000_000_000n + BigInt(bytes.readUInt32LE(at + 40)),
      name: text.slice(0, names),
      target: text.slice(names),
    });
    at += 48 + names + targets;
  }
  return found;
}

export class FilesWorker {
  readonly running: Running;
  #id = 0;
  #taken = 0;

  constructor(client: Client) {
    this.running = client.exec({ argv: ["files"], flags: FLAG.worker | FLAG.stdin });
  }

  /** Stdin in pieces, as credit comes back for them. */
  async send(bytes: Buffer): Promise<void> {
    const piece = 128 * 1024;
    for (let at = 0; at < bytes.length; at += piece) {
      const before = this.running.stdinCredit;
      const part = bytes.subarray(at, at + piece);
      this.running.send(REQUEST.stdin, part);
      while (this.running.stdinCredit < before + part.length) await new Promise((go) => setTimeout(go, 1));
    }
  }

  /** The body of the answer, or its errno. */
  async ask(op: number, request: FilesRequest): Promise<Buffer | number> {
    await this.send(frame(op, ++this.#id, filesBody(request)));
    return await this.answer(this.#id);
  }

  async answer(id: number): Promise<Buffer | number> {
    for (;;) {
      const all = Buffer.concat(this.running.out).subarray(this.#taken);
      if (all.length >= 12 && all.length >= 12 + all.readUInt32LE(0)) {
        const length = all.readUInt32LE(0);
        if (all.readUInt32LE(4) !== id) throw new Error(`an answer to ${all.readUInt32LE(4)}, not to ${id}`);
        this.#taken += 12 + length;
        const body = Buffer.from(all.subarray(12, 12 + length));
        return all.readUInt8(8) === 65 ? body.readUInt32LE(0) : body;
      }
      await this.running.changed();
    }
  }

  async good(op: number, request: FilesRequest): Promise<Buffer> {
    const answer = await this.ask(op, request);
    if (typeof answer === "number") throw new Error(`errno ${answer} for ${JSON.stringify(request).slice(0, 200)}`);
    return answer;
  }

  async entry(op: number, request: FilesRequest): Promise<Entry> {
    return entries(await this.good(op, request))[0] as Entry;
  }

  /** All pages of a listing. */
  async list(path: string, count = 1000): Promise<Entry[]> {
    const found: Entry[] = [];
    for (let more = true; more; ) {
      const page = await this.good(OP.list, { path, count, other: found.at(-1)?.name ?? "" });
      more = page[0] === 1;
      found.push(...entries(page.subarray(1)));
    }
    return found;
  }
}
