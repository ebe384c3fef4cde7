// The first message of TLS, read for the one name in it. Not a TLS implementation: versions and ciphers are the two ends' affair.
// Invariant: a hello that is taken names exactly one host in clear, nothing hides another one, and all of it was seen.

import { Host } from "./host.ts";

export interface ClientHello {
  readonly host: Host;
  /** Protocols that the client offers. */
  readonly alpn: readonly string[];
}

export type HelloResult =
  /** Not whole yet. */
  | "more"
  /** Not TLS, or not as it is written. */
  | "malformed"
  /** No name, several, an address, or an encrypted one. */
  | "nameless"
  | ClientHello;

/** Of a hello with its records, bytes. */
export const MAX_HELLO_BYTES = 16 * 1024;
const HANDSHAKE = 22;
const MAX_RECORD = 16_384;
/** Records that one hello may be cut into. */
const MAX_RECORDS = 16;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const ALPN = 16;
/** SAFETY: behind one of these stands a second name that only the server reads: ECH, and what came before it. */
const ENCRYPTED = new Set([0xfe_0d, 0xfe_0a, 0xfe_09, 0xfe_08, 0xff_ce]);

/** Whether these first bytes can begin a handshake. */
export function looksLikeTls(bytes: Buffer): boolean {
  return bytes[0] === HANDSHAKE;
}

/** Reads the hello at the start of what a client sent; the same bytes and more are given again after `more`. */
export function readClientHello(bytes: Buffer): HelloResult {
  const message = messageOf(bytes);
  if (message === "more") return bytes.length >= MAX_HELLO_BYTES ? "malformed" : "more";
  if (message === "malformed") return "malformed";
  try {
    return helloOf(new Cursor(message));
  } catch (error) {
    if (error instanceof ShortError) return "malformed";
    throw error;
  }
}

/** The first handshake message, put together from its records. */
function messageOf(bytes: Buffer): Buffer | "more" | "malformed" {
  const pieces: Buffer[] = [];
  let have = 0;
  for (let at = 0; pieces.length < MAX_RECORDS; ) {
    const record = recordAt(bytes, at);
    if (typeof record === "string") return record;
    pieces.push(record.piece);
    have += record.piece.length;
    const start = have < 4 ? undefined : Buffer.concat(pieces.slice(0, 4)).subarray(0, 4);
    const wanted = start === undefined ? undefined : 4 + start.readUIntBE(1, 3);
    if (pieces[0]?.[0] !== undefined && pieces[0][0] !== CLIENT_HELLO) return "malformed";
    if (wanted !== undefined && (wanted > MAX_HELLO_BYTES || have > wanted)) return "malformed";
    // SAFETY: before its record is whole, more may follow in it.
    if (!record.whole) return "more";
    if (wanted !== undefined && have === wanted) return Buffer.concat(pieces).subarray(4);
    at += 5 + record.piece.length;
  }
  return "malformed";
}

function recordAt(bytes: Buffer, at: number): { readonly piece: Buffer; readonly whole: boolean } | "more" | "malformed" {
  const [type = HANDSHAKE, major = 3] = bytes.subarray(at, at + 2);
  if (type !== HANDSHAKE || major !== 3) return "malformed";
  if (bytes.length < at + 5) return "more";
  const length = bytes.readUInt16BE(at + 3);
  if (length === 0 || length > MAX_RECORD) return "malformed";
  const piece = bytes.subarray(at + 5, at + 5 + length);
  return { piece, whole: piece.length === length };
}

class ShortError extends Error {
  override readonly name = "ShortError";
}

/** Reads forward; what is not there throws. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  number(size: 1 | 2): number {
    return this.bytes(size).readUIntBE(0, size);
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new ShortError();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** What stands behind its own length. */
  vector(size: 1 | 2): Cursor {
    return new Cursor(this.bytes(this.number(size)));
  }

  rest(): Buffer {
    return this.bytes(this.#bytes.length - this.#at);
  }

  end(): void {
    if (!this.isAtEnd) throw new ShortError();
  }
}

function helloOf(hello: Cursor): HelloResult {
  hello.bytes(2 + 32);
  if (hello.vector(1).rest().length > 32) return "malformed";
  const ciphers = hello.vector(2).rest();
  if (ciphers.length === 0 || ciphers.length % 2 !== 0) return "malformed";
  if (hello.vector(1).rest().length === 0) return "malformed";
  if (hello.isAtEnd) return "nameless";
  const extensions = hello.vector(2);
  hello.end();
  const found = new Map<number, Cursor>();
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    if (found.has(type)) return "malformed";
    found.set(type, extensions.vector(2));
  }
  if ([...found.keys()].some((type) => ENCRYPTED.has(type))) return "nameless";
  const names = found.get(SERVER_NAME);
  const host = names === undefined ? undefined : nameOf(names);
  if (host === undefined) return "nameless";
  const offered = found.get(ALPN);
  return { host, alpn: offered === undefined ? [] : protocolsOf(offered) };
}

/** Exactly one host name. */
function nameOf(extension: Cursor): Host | undefined {
  const list = extension.vector(2);
  extension.end();
  if (list.number(1) !== 0) return undefined;
  const name = list.vector(2).rest();
  if (!list.isAtEnd) return undefined;
  const host = Host.parse(name.toString("latin1"));
  return host?.address === undefined ? host : undefined;
}

function protocolsOf(extension: Cursor): string[] {
  const list = extension.vector(2);
  extension.end();
  const protocols: string[] = [];
  while (!list.isAtEnd) protocols.push(list.vector(1).rest().toString("latin1"));
  return protocols;
}
