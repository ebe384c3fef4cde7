// Our parsers beside those of Node.js: what we take, they take and read alike; where they differ, we refuse.

import fc from "fast-check";
import { createServer, type IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { connect, createSecureContext, TLSSocket } from "node:tls";
import { describe, expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { BodyError, BodyReader, framed, LAST_CHUNK } from "./body.ts";
import { createAuthority, LeafMint } from "./certificate.ts";
import { MAX_HELLO_BYTES, readClientHello } from "./client-hello.ts";
import { headEnd, MAX_HEAD_BYTES, parseAnswerHead, parseRequestHead, type RequestHead } from "./head.ts";
import { helloGuard } from "./hello-guard.ts";
import { Host } from "./host.ts";
import { connectTarget, type Door, planOf } from "./request-plan.ts";
import { Stop } from "./stop.ts";

/** A stream into which a test puts bytes by hand. */
class Wire extends Duplex {
  readonly out: Buffer[] = [];
  override _read(): void {
    /* what is pushed is there */
  }
  override _write(chunk: Buffer, _coding: string, done: () => void): void {
    this.out.push(chunk);
    this.emit("wrote");
    done();
  }
  async wrote(): Promise<void> {
    if (this.out.length === 0 && !this.destroyed) await new Promise((resolve) => this.once("wrote", resolve).once("close", resolve));
  }
}

type Read = { readonly method: string; readonly target: string; readonly headers: readonly string[] } | "refused";

/** What llhttp reads in these bytes as one request. */
function llhttp(bytes: Buffer): Promise<Read> {
  const server = createServer({ insecureHTTPParser: false, requireHostHeader: false });
  const wire = new Wire();
  return new Promise((resolve) => {
    server.on("request", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("connect", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("upgrade", ({ method = "", url = "", rawHeaders }: IncomingMessage) => resolve({ method, target: url, headers: rawHeaders }));
    server.on("clientError", () => resolve("refused"));
    server.emit("connection", wire);
    wire.push(bytes);
  });
}

function ours(bytes: Buffer): Read {
  const end = headEnd(bytes);
  const head = end > 0 ? parseRequestHead(bytes.subarray(0, end)) : undefined;
  if (head === undefined || !isPlanned(head)) return "refused";
  return { method: head.method, target: head.target, headers: head.headers.flatMap(({ name, value }) => [name, value]) };
}

/** Whether the head is taken through the proxy's door or on a connection that has its target. */
function isPlanned(head: RequestHead): boolean {
  const host = Host.parse("a.org");
  const doors: readonly Door[] = host === undefined ? [] : [{ kind: "proxy" }, { kind: "fixed", target: { host, port: 80 }, tls: false }];
  const takes = (act: () => unknown): boolean => {
    try {
      act();
      return true;
    } catch (error) {
      if (error instanceof Stop) return false;
      throw error;
    }
  };
  return head.method === "CONNECT" ? takes(() => connectTarget(head)) : doors.some((door) => takes(() => planOf(head, door)));
}

const byteText = (from: number, to: number): fc.Arbitrary<string> =>
  fc.integer({ min: from, max: to }).map((code) => String.fromCharCode(code));
const token = fc.stringMatching(/^[A-Za-z-]{1,8}$/);
const value = fc.oneof(
  fc.stringMatching(/^[ -~]{0,12}$/),
  fc.array(byteText(0, 255), { maxLength: 6 }).map((some) => some.join("")),
);
const line = fc.oneof(
  fc.tuple(token, fc.constantFrom(": ", ": ", ":", " : ", ":\t", ""), value).map((parts) => parts.join("")),
  fc.tuple(token, fc.stringMatching(/^[ -~]{0,12}$/)).map((parts) => parts.join(": ")),
  fc.constantFrom("Content-Length: 0", "Content-Length: 3", "Transfer-Encoding: chunked", "Host: b.org", " folded", "Connection: close"),
);
const request = fc
  .record({
    method: fc.constantFrom("GET", "POST", "PUT", "CONNECT", "get", "G T", "OPTIONS"),
    target: fc.oneof(
      fc.constantFrom("/", "http://a.org/", "a.org:443", "*", "/a b", "/\0"),
      fc.stringMatching(/^\/[!-~]{0,10}$/),
      fc.constant("/x?y"),
    ),
    version: fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"),
    lines: fc.array(line, { maxLength: 3 }),
    end: fc.constantFrom("\r\n", "\r\n", "\r\n", "\n", "\r"),
  })
  .map(({ method, target, version, lines, end }) =>
    Buffer.from([`${method} ${target} ${version}`, "Host: a.org", ...lines, "", ""].join(end), "latin1"),
  );

verifies("egress/strict-heads", "what our parser takes as a head, llhttp reads byte for byte alike", async () => {
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(request, async (bytes) => {
      const mine = ours(bytes);
      if (mine === "refused") return;
      taken += 1;
      expect(await llhttp(bytes)).toEqual(mine);
    }),
    { numRuns: 1_500 },
  );
  expect(taken, "the corpus holds heads that are taken").toBeGreaterThan(50);
});

it("finds the end of a head however it is cut, and no end of one that is too long", () => {
  const bytes = Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest");
  for (let cut = 0; cut < bytes.length - 4; cut++) expect(headEnd(bytes.subarray(0, cut))).toBe(0);
  expect(headEnd(bytes)).toBe(bytes.length - 4);
  expect(headEnd(Buffer.alloc(MAX_HEAD_BYTES + 1, "a"))).toBe(-1);
  expect(headEnd(Buffer.from(`${"a: b\r\n".repeat(10_000)}\r\n`))).toBe(-1);
  expect(parseAnswerHead(Buffer.from("HTTP/1.1 200\r\n\r\n"))?.status).toBe(200);
  expect(parseAnswerHead(Buffer.from("HTTP/1.1 99 x\r\n\r\n"))).toBeUndefined();
});

describe("bodies", () => {
  const read = (reader: BodyReader, bytes: Buffer, size: number): { text: string; used: number } => {
    let text = "";
    let used = 0;
    for (let at = 0; at < bytes.length && !reader.done; at += size) {
      let piece = bytes.subarray(at, at + size);
      while (piece.length > 0 && !reader.done) {
        const { content, taken } = reader.take(piece);
        text += Buffer.concat(content).toString("latin1");
        used += taken;
        piece = piece.subarray(taken);
      }
    }
    return { text, used };
  };

  it("takes exactly the bytes of a body, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 50 }),
        (pieces, size) => {
          const content = Buffer.concat(pieces);
          const chunked = Buffer.concat([...pieces.map((piece) => framed(Buffer.from(piece), "chunked")), LAST_CHUNK, Buffer.from("GET ")]);
          for (const of of ["request", "answer"] as const)
            expect(read(new BodyReader({ kind: "chunked" }, of), chunked, size)).toEqual({
              text: content.toString("latin1"),
              used: chunked.length - 4,
            });
          const plain = Buffer.concat([content, Buffer.from("GET ")]);
          expect(read(new BodyReader({ kind: "length", bytes: content.length }, "request"), plain, size).used).toBe(content.length);
        },
      ),
    );
  });

  it("refuses in a request what is not a plain chunk", () => {
    for (const text of [
      "5;x=y\r\nhello\r\n0\r\n\r\n",
      "5 \r\nhello\r\n",
      "+5\r\n",
      "0x5\r\n",
      "-1\r\n",
      "\r\n",
      "5\nhello",
      "5\r\nhello5\r\n",
      "000000005\r\n",
      "0\r\nTrailer: x\r\n\r\n",
      "fffffffff\r\n",
    ])
      expect(() => read(new BodyReader({ kind: "chunked" }, "request"), Buffer.from(text), 100), JSON.stringify(text)).toThrow(BodyError);
    const loose = Buffer.from("5 ;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n");
    expect(read(new BodyReader({ kind: "chunked" }, "answer"), loose, 3)).toEqual({ text: "hello", used: loose.length });
  });
});

/** The hello that OpenSSL writes. */
async function helloFor(servername: string, ALPNProtocols: string[] = []): Promise<Buffer> {
  const wire = new Wire();
  const socket = connect({ socket: wire, servername, rejectUnauthorized: false, ...(ALPNProtocols.length > 0 ? { ALPNProtocols } : {}) });
  socket.on("error", () => undefined);
  await wire.wrote();
  socket.destroy();
  return Buffer.concat(wire.out);
}

/** The name that OpenSSL reads in a hello; `undefined` when it refuses it or reads none. */
async function opensslName(hello: Buffer): Promise<string | undefined> {
  const { certificate, key } = new LeafMint(AUTHORITY).leaf("x.org", Date.now());
  const wire = new Wire();
  let name: string | undefined;
  const socket = new TLSSocket(wire, {
    isServer: true,
    secureContext: createSecureContext({ cert: certificate, key }),
    SNICallback: (servername, done) => {
      name = servername;
      done(null);
    },
  });
  socket.on("error", () => undefined);
  wire.push(hello);
  await wire.wrote();
  socket.destroy();
  return name;
}

const AUTHORITY = createAuthority(Date.now());

verifies("egress/hello", "a hello is read the same however it is cut, in as many records as it may have", async () => {
  const hello = await helloFor("a.example.com", ["h2", "http/1.1"]);
  for (let cut = 0; cut < hello.length; cut += 7) expect(readClientHello(hello.subarray(0, cut))).toBe("more");
  expect(readClientHello(hello)).toMatchObject({ host: { text: "a.example.com" }, alpn: ["h2", "http/1.1"] });
  const body = hello.subarray(5);
  const records = (size: number): Buffer => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < body.length; at += size) {
      const piece = body.subarray(at, at + size);
      pieces.push(Buffer.from([22, 3, 1, piece.length >> 8, piece.length & 255]), piece);
    }
    return Buffer.concat(pieces);
  };
  expect(readClientHello(records(Math.ceil(body.length / 5)))).toMatchObject({ host: { text: "a.example.com" } });
  expect(readClientHello(records(1)), "a hello in crumbs").toBe("malformed");
  expect(
    readClientHello(Buffer.concat([records(body.length), Buffer.from([23, 3, 3, 0, 1, 0])])),
    "what follows is not looked at",
  ).toMatchObject({ host: { text: "a.example.com" } });
});

verifies("egress/hello", "no name, an address, an encrypted name and an oversize hello are refused", async () => {
  expect(readClientHello(await helloFor(""))).toBe("nameless");
  const hello = await helloFor("a.example.com");
  const withExtension = (type: number, content: Buffer): Buffer => {
    const extension = Buffer.concat([Buffer.from([type >> 8, type & 255, content.length >> 8, content.length & 255]), content]);
    const bytes = Buffer.concat([hello, extension]);
    bytes.writeUInt16BE(bytes.length - 5, 3);
    bytes.writeUIntBE(bytes.length - 9, 6, 3);
    const lengthAt = bytes.length - extension.length - extensionsLength(hello) - 2;
    bytes.writeUInt16BE(extensionsLength(hello) + extension.length, lengthAt);
    return bytes;
  };
  expect(readClientHello(withExtension(0x1234, Buffer.alloc(3)))).toMatchObject({ host: { text: "a.example.com" } });
  expect(readClientHello(withExtension(0xfe0d, Buffer.alloc(3)))).toBe("nameless");
  expect(readClientHello(withExtension(0, Buffer.from("\0\x08\0\0\x05b.org", "latin1"))), "a second name").toBe("malformed");
  expect(readClientHello(withExtension(0x1234, Buffer.alloc(MAX_HELLO_BYTES)))).toBe("malformed");
  expect(readClientHello(Buffer.from("GET / HTTP/1.1\r\n"))).toBe("malformed");
});

verifies("egress/hello", "what our parser reads as the name of a hello is what OpenSSL reads, whatever bytes are changed", async () => {
  const hello = await helloFor("name.example.com", ["http/1.1"]);
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 2 }), async (changes) => {
      const bytes = Buffer.from(hello);
      for (const [at, byte] of changes) bytes[at] = byte;
      const mine = readClientHello(bytes);
      if (typeof mine === "string") return;
      taken += 1;
      const theirs = await opensslName(bytes);
      if (theirs !== undefined) expect(theirs.toLowerCase()).toBe(mine.host.text);
    }),
    { numRuns: 300 },
  );
  expect(taken).toBeGreaterThan(20);
});

verifies("egress/hello", "a second hello in clear must name the same host", async () => {
  const same = await helloFor("a.example.com");
  const other = await helloFor("b.example.com");
  const changeCipher = Buffer.from([20, 3, 3, 0, 1, 1]);
  const data = Buffer.from([23, 3, 3, 0, 2, 9, 9]);
  const passed = (...chunks: Buffer[]): Buffer | undefined => {
    const guard = helloGuard("a.example.com");
    const out: Buffer[] = [];
    for (const chunk of chunks) {
      const some = guard(chunk);
      if (some === undefined) return undefined;
      out.push(some);
    }
    return Buffer.concat(out);
  };
  const crumbs = (bytes: Buffer): Buffer[] => [...bytes].map((byte) => Buffer.from([byte]));
  expect(passed(changeCipher, same, data)).toEqual(Buffer.concat([changeCipher, same, data]));
  expect(passed(...crumbs(Buffer.concat([changeCipher, same, data])))).toEqual(Buffer.concat([changeCipher, same, data]));
  expect(passed(changeCipher, data)).toEqual(Buffer.concat([changeCipher, data]));
  expect(passed(changeCipher, other)).toBeUndefined();
  expect(passed(...crumbs(other))).toBeUndefined();
});

function extensionsLength(hello: Buffer): number {
  let at = 9 + 2 + 32;
  at += 1 + (hello[at] ?? 0);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + (hello[at] ?? 0);
  return hello.readUInt16BE(at);
}
