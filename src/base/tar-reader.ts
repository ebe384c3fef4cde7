// Reads a tar stream that may be hostile: ustar, pax, GNU long names. It writes nothing and judges no path. Names and targets are latin1,
// one character a byte. Libraries at hand turn names that are not UTF-8 into others, and read sparse files and unknown types as plain
// files; here what is not understood to the letter is refused by name.
// Invariant: memory is bounded whatever the headers say; an entry's content has exactly the bytes of its size, or the read throws.

const BLOCK = 512;
/** Bytes of one pax or long-name header; attributes of files may stand there too. */
const MAX_META_BYTES = 1024 * 1024;
/** Headers of that kind that one entry may have. */
const MAX_META_HEADERS = 8;

export class TarError extends Error {
  override readonly name = "TarError";
}

export interface TarEntry {
  /** latin1, as it stands there. */
  readonly path: string;
  /** `special`: a device or a FIFO. */
  readonly type: "file" | "dir" | "link" | "hardlink" | "special";
  /** Lowest nine bits: set-id and sticky bits stay behind. */
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
  readonly size: number;
  /** latin1, of both kinds of links. */
  readonly target: string;
  /** May be read once, before the next entry is asked for; what is left is skipped. Chunks are the reader's to keep. */
  content(): AsyncGenerator<Uint8Array>;
}

/** What headers before an entry say of it. */
interface Extra {
  path?: string;
  target?: string;
  size?: number;
  mtime?: { readonly seconds: number; readonly ns: number };
  headers: number;
}

const REFUSED: Readonly<Record<string, string>> = {
  S: "a sparse file",
  M: "a part of another archive",
};

export async function* readTar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry, void, void> {
  const source = new ByteSource(chunks);
  try {
    let extra: Extra = { headers: 0 };
    for (;;) {
      const block = await source.block();
      // One block of zeros is an end too: some writers leave the second out. What follows is nobody's.
      if (block === undefined || block.every((byte) => byte === 0)) break;
      const flag = String.fromCharCode(block[156] ?? 0);
      demandChecksum(block);
      if ("xgLK".includes(flag)) {
        await readMeta(source, flag, numberAt(block, 124, 12), extra);
        continue;
      }
      const entry = entryOf(block, flag, extra);
      const content = new Content(source, entry.size);
      yield { ...entry, content: () => content.read() };
      await content.finish();
      extra = { headers: 0 };
    }
    if (extra.headers > 0) throw new TarError("the archive ends in the middle of an entry");
  } finally {
    await source.close();
  }
}

function entryOf(block: Buffer, flag: string, extra: Extra): Omit<TarEntry, "content"> {
  const own = textAt(block, 0, 100);
  const prefix = block.toString("latin1", 257, 263) === "ustar\0" ? textAt(block, 345, 155) : "";
  const path = extra.path ?? (prefix === "" ? own : `${prefix}/${own}`);
  const type = typeOf(flag, path);
  const size = extra.size ?? numberAt(block, 124, 12);
  // Some programs would take what follows for content, others for the next header.
  if (type !== "file" && size !== 0) throw new TarError(`${shown(path)} is no file, but has a size`);
  const { seconds, ns } = extra.mtime ?? { seconds: numberAt(block, 136, 12), ns: 0 };
  return {
    path,
    type,
    mode: numberAt(block, 100, 8) & 0o777,
    mtimeSeconds: seconds,
    mtimeNs: ns,
    size,
    target: type === "link" || type === "hardlink" ? (extra.target ?? textAt(block, 157, 100)) : "",
  };
}

function typeOf(flag: string, path: string): TarEntry["type"] {
  if (flag === "0" || flag === "\0" || flag === "7") return path.endsWith("/") ? "dir" : "file";
  if (flag === "1") return "hardlink";
  if (flag === "2") return "link";
  if (flag === "5") return "dir";
  if (flag === "3" || flag === "4" || flag === "6") return "special";
  throw new TarError(`${shown(path)} is ${REFUSED[flag] ?? `an entry of the unknown type ${JSON.stringify(flag)}`}`);
}

async function readMeta(source: ByteSource, flag: string, size: number, extra: Extra): Promise<void> {
  if (size > MAX_META_BYTES) throw new TarError(`a header of ${size} bytes before an entry; ${MAX_META_BYTES} are the most`);
  if (++extra.headers > MAX_META_HEADERS) throw new TarError("too many headers before one entry");
  const bytes = await source.take(size);
  await source.skipPadding(size);
  if (flag === "L" || flag === "K") {
    const end = bytes.indexOf(0);
    extra[flag === "L" ? "path" : "target"] = bytes.toString("latin1", 0, end === -1 ? bytes.length : end);
    return;
  }
  const records = paxRecords(bytes);
  // A global header speaks of all entries that follow: git writes its commit there. More than a comment would change them unseen.
  if (flag === "x") applyPax(records, extra);
  else if ([...records.keys()].some((key) => key in PAX || key.startsWith("GNU.sparse")))
    throw new TarError("a global header that changes names or sizes");
  if (flag === "g") extra.headers -= 1;
}

const PAX = { path: true, linkpath: true, size: true, mtime: true } as const;

function applyPax(records: ReadonlyMap<string, string>, extra: Extra): void {
  for (const key of records.keys()) if (key.startsWith("GNU.sparse")) throw new TarError("a sparse file");
  const [path, target, size, mtime] = ["path", "linkpath", "size", "mtime"].map((key) => records.get(key));
  if (path !== undefined) extra.path = path;
  if (target !== undefined) extra.target = target;
  if (size !== undefined) {
    if (!/^\d{1,16}$/.test(size) || !Number.isSafeInteger(Number(size))) throw new TarError("a pax header with a size that is no number");
    extra.size = Number(size);
  }
  if (mtime !== undefined) extra.mtime = timeOf(mtime);
}

function timeOf(text: string): { readonly seconds: number; readonly ns: number } {
  const match = /^(-?\d{1,15})(?:\.(\d{1,30}))?$/.exec(text);
  if (match === null) throw new TarError("a pax header with a time that is no number");
  const seconds = Number(match[1]);
  const ns = Number((match[2] ?? "").slice(0, 9).padEnd(9, "0"));
  return text.startsWith("-") && ns > 0 ? { seconds: seconds - 1, ns: 1_000_000_000 - ns } : { seconds, ns };
}

/** `LENGTH key=value\n` to the last byte, or an error. */
function paxRecords(bytes: Buffer): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  const text = bytes.toString("latin1");
  for (let at = 0; at < text.length; ) {
    const head = /^(\d{1,7}) /.exec(text.slice(at, at + 8));
    const end = at + Number(head?.[1] ?? 0);
    const equals = text.indexOf("=", at);
    if (head === null || end > text.length || text[end - 1] !== "\n" || equals === -1 || equals >= end)
      throw new TarError("a pax header that is malformed");
    records.set(text.slice(at + head[0].length, equals), text.slice(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** Content of one entry, read at most once and skipped to its end. */
class Content {
  readonly #source: ByteSource;
  readonly #size: number;
  #left: number;

  constructor(source: ByteSource, size: number) {
    this.#source = source;
    this.#size = size;
    this.#left = size;
  }

  async *read(): AsyncGenerator<Uint8Array> {
    while (this.#left > 0) {
      const chunk = await this.#source.some(this.#left);
      this.#left -= chunk.length;
      yield chunk;
    }
  }

  async finish(): Promise<void> {
    while (this.#left > 0) this.#left -= (await this.#source.some(this.#left)).length;
    await this.#source.skipPadding(this.#size);
  }
}

/** Bytes of a stream, by pieces of the sizes that are wanted. */
class ByteSource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #held: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** Between 1 and `most` bytes. */
  async some(most: number): Promise<Buffer> {
    while (this.#held.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) throw new TarError("the archive ends in the middle of an entry");
      this.#held = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    const piece = this.#held.subarray(0, most);
    this.#held = this.#held.subarray(piece.length);
    return piece;
  }

  async take(bytes: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (let left = bytes; left > 0; ) {
      const piece = await this.some(left);
      pieces.push(piece);
      left -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** `undefined` at the end of the stream. */
  async block(): Promise<Buffer | undefined> {
    while (this.#held.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return undefined;
      this.#held = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return await this.take(BLOCK);
  }

  async skipPadding(size: number): Promise<void> {
    await this.take((BLOCK - (size % BLOCK)) % BLOCK);
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

function demandChecksum(block: Buffer): void {
  let sum = 8 * 32;
  let signed = sum;
  for (let at = 0; at < BLOCK; at++) {
    if (at >= 148 && at < 156) continue;
    sum += block.readUInt8(at);
    signed += block.readInt8(at); // what some old writers added up
  }
  const told = numberAt(block, 148, 8);
  if (told !== sum && told !== signed) throw new TarError("a header with a wrong checksum; this is no tar, or it is damaged");
}

/** Octal digits, or the binary form of large numbers. */
function numberAt(block: Buffer, at: number, length: number): number {
  const first = block[at] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x7f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[at + i] ?? 0);
    if ((first & 0x40) !== 0 || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new TarError("a header with a number that is too large or negative");
    return Number(value);
  }
  const text = block
    .toString("latin1", at, at + length)
    .replace(/[\0 ]+$/, "")
    .trimStart();
  if (!/^[0-7]*$/.test(text)) throw new TarError("a header with a number that is none");
  return text === "" ? 0 : Number.parseInt(text, 8);
}

function textAt(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at);
  return block.toString("latin1", at, end === -1 || end > at + length ? at + length : end);
}

/** SAFETY: a name of a hostile archive in a message must not act on a terminal. */
function shown(path: string): string {
  return JSON.stringify(path.slice(0, 200)).replaceAll(/[^\x20-\x7e]/g, "?");
}
