// The head of an HTTP/1.1 request or answer, from its bytes. Mends nothing and knows no rule.
// Invariant: a head that two parsers could read in two ways is refused: every one that is taken has one framing, one name of its host, and no byte
// that ends a line elsewhere.

export interface Header {
  /** As it came. */
  readonly name: string;
  readonly lower: string;
  /** Bytes as latin1, without white space around them. */
  readonly value: string;
}

/** How many bytes follow a head: none, so many, chunks, or all until the end. */
export type Framing = { readonly kind: "none" | "chunked" | "close" } | { readonly kind: "length"; readonly bytes: number };

export interface RequestHead {
  readonly method: string;
  readonly target: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Header[];
  readonly framing: Framing;
}

export interface AnswerHead {
  readonly status: number;
  readonly reason: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Header[];
}

/** Of a head, bytes. */
export const MAX_HEAD_BYTES = 32 * 1024;
const MAX_HEADERS = 128;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Methods are upper case: some servers read others as if they were. */
const REQUEST_LINE = /^([A-Z][A-Z-]{0,31}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const LENGTH = /^(?:0|[1-9]\d{0,14})$/;
const CR = 13;
const LF = 10;

/** Bytes of the head at the start, its last empty line among them; 0 while it is not whole; -1 when it is none. */
export function headEnd(bytes: Buffer): number {
  for (let at = 0; ; ) {
    const next = bytes.indexOf(LF, at);
    if (next < 0) return bytes.length > MAX_HEAD_BYTES ? -1 : 0;
    // SAFETY: a line feed alone ends a line for some and not for others.
    if (next >= MAX_HEAD_BYTES || bytes[next - 1] !== CR) return -1;
    if (next - 1 === at) return next + 1;
    at = next + 1;
  }
}

/** A whole head, as `headEnd` found it. */
export function parseRequestHead(bytes: Buffer): RequestHead | undefined {
  const parts = partsOf(bytes);
  const match = parts === undefined ? null : REQUEST_LINE.exec(parts.first);
  if (parts === undefined || match === null) return undefined;
  const [, method = "", target = "", minor] = match;
  const { headers } = parts;
  // In HTTP/1.0 a tunnel is asked for without Host (Python does); its target is the only name there is.
  const isOldTunnel = method === "CONNECT" && minor === "0";
  const hosts = count(headers, "host");
  if (hosts > 1 || (hosts === 0 && !isOldTunnel)) return undefined;
  const framing = framingOf(headers, minor === "1");
  if (framing === undefined) return undefined;
  return { method, target, minor: minor === "1" ? 1 : 0, headers, framing: framing === "unsaid" ? { kind: "none" } : framing };
}

export function parseAnswerHead(bytes: Buffer): AnswerHead | undefined {
  const parts = partsOf(bytes);
  const match = parts === undefined ? null : STATUS_LINE.exec(parts.first);
  if (parts === undefined || match === null) return undefined;
  const [, minor, status, reason = ""] = match;
  return { status: Number(status), reason, minor: minor === "1" ? 1 : 0, headers: parts.headers };
}

/** What follows an answer's head; `undefined` when it says two things. */
export function answerFraming(head: AnswerHead, method: string): Framing | undefined {
  const framing = framingOf(head.headers, head.minor === 1);
  if (framing === undefined) return undefined;
  const { status } = head;
  if (method === "HEAD" || status === 204 || status === 304 || status < 200) return { kind: "none" };
  return framing === "unsaid" ? { kind: "close" } : framing;
}

export function headerValue(headers: readonly Header[], lower: string): string | undefined {
  return headers.find((header) => header.lower === lower)?.value;
}

/** Lower-case members of a header that is a list. */
export function listed(headers: readonly Header[], lower: string): string[] {
  const values = headers.filter((header) => header.lower === lower).flatMap(({ value }) => value.split(","));
  return values.map((value) => value.trim().toLowerCase()).filter((value) => value !== "");
}

/** The bytes of a head. Takes what `parse…` gave, or text of ours. */
export function headBytes(first: string, headers: readonly Pick<Header, "name" | "value">[]): Buffer {
  return Buffer.from(`${[first, ...headers.map(({ name, value }) => `${name}: ${value}`)].join("\r\n")}\r\n\r\n`, "latin1");
}

function partsOf(bytes: Buffer): { readonly first: string; readonly headers: readonly Header[] } | undefined {
  const text = bytes.toString("latin1");
  if (!text.endsWith("\r\n\r\n")) return undefined;
  const [first = "", ...lines] = text.slice(0, -4).split("\r\n");
  if (lines.length > MAX_HEADERS) return undefined;
  const headers = lines.map(headerOf);
  return headers.every((header) => header !== undefined) ? { first, headers } : undefined;
}

function headerOf(line: string): Header | undefined {
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(0, colon));
  const value = line.slice(colon + 1);
  // SAFETY: no space before the colon, no folded line, no CR, LF or NUL: none of them is in either set.
  if (!TOKEN.test(name) || !VALUE.test(value)) return undefined;
  return { name, lower: name.toLowerCase(), value: value.replace(/^[\t ]+|[\t ]+$/g, "") };
}

function count(headers: readonly Header[], lower: string): number {
  return headers.filter((header) => header.lower === lower).length;
}

/** SAFETY: one length, in digits alone, or `chunked` alone; both, or either twice, is how requests are smuggled. */
function framingOf(headers: readonly Header[], isNew: boolean): Framing | "unsaid" | undefined {
  const lengths = headers.filter(({ lower }) => lower === "content-length");
  const codings = headers.filter(({ lower }) => lower === "transfer-encoding");
  const [length] = lengths;
  const [coding] = codings;
  if (lengths.length + codings.length > 1) return undefined;
  if (coding !== undefined) return isNew && coding.value.toLowerCase() === "chunked" ? { kind: "chunked" } : undefined;
  if (length === undefined) return "unsaid";
  return LENGTH.test(length.value) ? { kind: "length", bytes: Number(length.value) } : undefined;
}
