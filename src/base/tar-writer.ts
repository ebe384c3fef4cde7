// Headers of a tar stream: ustar, with pax records where a name, a target, a size or a time does not fit. Names are latin1, one character a
// byte. It writes no content: whoever calls puts it behind the header, and `tarPadding` behind the content.
// Invariant: what `tar-reader.ts` reads of an entry is what was given here.

const BLOCK = 512;
const MAX_NAME = 100;
const MAX_PREFIX = 155;
/** Eleven octal digits. */
const MAX_OCTAL = 0o77777777777;
const TYPE_FLAGS = { file: "0", link: "2", dir: "5" } as const;

export interface TarHeader {
  /** latin1, relative, without a `/` at its end. */
  readonly path: string;
  readonly type: keyof typeof TYPE_FLAGS;
  readonly mode: number;
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999, after the seconds, also before 1970. */
  readonly mtimeNs?: number;
  /** Bytes that follow; 0 but for a file. */
  readonly size: number;
  /** latin1, of a link. */
  readonly target?: string;
}

/** What ends a stream. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * BLOCK);
}

/** What follows content of `size` bytes. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

export function tarHeader({ path, type, mode, mtimeSeconds, mtimeNs = 0, size, target = "" }: TarHeader): Buffer {
  const name = type === "dir" ? `${path}/` : path;
  const split = splitName(name);
  const pax: [string, string][] = [];
  if (split === undefined) pax.push(["path", name]);
  if (target.length > MAX_NAME) pax.push(["linkpath", target]);
  if (size > MAX_OCTAL) pax.push(["size", String(size)]);
  if (mtimeNs > 0 || mtimeSeconds < 0 || mtimeSeconds > MAX_OCTAL) pax.push(["mtime", timeText(mtimeSeconds, mtimeNs)]);
  const [prefix, rest] = split ?? ["", name.slice(0, MAX_NAME)];
  const fields = { name: rest, prefix, mode: type === "link" ? 0o777 : mode, mtimeSeconds };
  const own = header({ ...fields, size: Math.min(size, MAX_OCTAL), flag: TYPE_FLAGS[type], target: target.slice(0, MAX_NAME) });
  return pax.length === 0 ? own : Buffer.concat([paxHeader(pax, mtimeSeconds), own]);
}

/** Decimal seconds: before 1970 the fraction counts away from 0. */
function timeText(seconds: number, ns: number): string {
  const isBefore = seconds < 0 && ns > 0;
  const whole = Math.abs(isBefore ? seconds + 1 : seconds);
  const fraction = String(isBefore ? 1_000_000_000 - ns : ns).padStart(9, "0");
  return `${seconds < 0 ? "-" : ""}${whole}${ns > 0 ? `.${fraction}` : ""}`;
}

/** Splits at a slash so that both halves fit; `undefined` when no slash does it. */
function splitName(name: string): readonly [string, string] | undefined {
  if (name.length <= MAX_NAME) return ["", name];
  for (let at = name.indexOf("/"); at !== -1 && at <= MAX_PREFIX; at = name.indexOf("/", at + 1)) {
    const rest = name.length - at - 1;
    if (rest > 0 && rest <= MAX_NAME) return [name.slice(0, at), name.slice(at + 1)];
  }
  return undefined;
}

function paxHeader(values: readonly (readonly [string, string])[], mtimeSeconds: number): Buffer {
  // Without this record values are UTF-8; ours are bytes.
  const records = Buffer.concat([["hdrcharset", "BINARY"] as const, ...values].map(([key, value]) => paxRecord(key, value)));
  const fields = { name: "PaxHeader", prefix: "", mode: 0o644, mtimeSeconds, size: records.length, flag: "x", target: "" };
  return Buffer.concat([header(fields), records, tarPadding(records.length)]);
}

/** `LENGTH key=value\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.from(`${length}${rest}`, "latin1");
}

interface Fields {
  readonly name: string;
  readonly prefix: string;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly size: number;
  readonly flag: string;
  readonly target: string;
}

function header({ name, prefix, mode, mtimeSeconds, size, flag, target }: Fields): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number): number => block.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  block.write(name, 0, MAX_NAME, "latin1");
  octal(mode & 0o777, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(size, 124, 11);
  octal(Math.max(0, Math.min(mtimeSeconds, MAX_OCTAL)), 136, 11);
  block.fill(" ", 148, 156);
  block.write(flag, 156, "latin1");
  block.write(target, 157, MAX_NAME, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  block.write(prefix, 345, MAX_PREFIX, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
