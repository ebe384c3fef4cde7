// Our reader of the first message of TLS beside OpenSSL: what we take names the host that OpenSSL reads in it. `./corral fuzz hello` is the
// long form.

import fc from "fast-check";
import { connect, createSecureContext, TLSSocket } from "node:tls";
import { expect } from "vitest";
import { Wire } from "../../test/fixtures/wire.ts";
import { fuzzed, LONGER_MS } from "../../test/fuzz/budget.ts";
import { changed } from "../../test/fuzz/changed.ts";
import { verifies } from "../../test/verifies.ts";
import { createAuthority, LeafMint } from "./certificate.ts";
import { MAX_HELLO_BYTES, readClientHello } from "./client-hello.ts";
import { helloGuard } from "./hello-guard.ts";

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
  const wire = new Wire();
  let name: string | undefined;
  const socket = new TLSSocket(wire, {
    isServer: true,
    secureContext: CONTEXT,
    SNICallback: (servername, done) => {
      name = servername;
      done(null);
    },
  });
  socket.on("error", () => undefined);
  wire.push(hello);
  // It would wait for the rest of what is not whole.
  const isOver = new Promise((resolve) => wire.once("end", () => setImmediate(() => setImmediate(resolve))));
  wire.push(null);
  await Promise.race([wire.wrote(), isOver]);
  socket.destroy();
  return name;
}

const { certificate, key } = new LeafMint(createAuthority(Date.now())).leaf("x.org", Date.now());
const CONTEXT = createSecureContext({ cert: certificate, key });

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
  expect(readClientHello(withExtension(hello, 0x1234, Buffer.alloc(3)))).toMatchObject({ host: { text: "a.example.com" } });
  expect(readClientHello(withExtension(hello, 0xfe0d, Buffer.alloc(3)))).toBe("nameless");
  expect(readClientHello(withExtension(hello, 0, Buffer.from("\0\x08\0\0\x05b.org", "latin1"))), "a second name").toBe("malformed");
  expect(readClientHello(withExtension(hello, 0x1234, Buffer.alloc(MAX_HELLO_BYTES)))).toBe("malformed");
  expect(readClientHello(Buffer.from("GET / HTTP/1.1\r\n"))).toBe("malformed");
});

verifies(
  "egress/hello",
  "what our parser reads as the name of a hello is what OpenSSL reads, whatever bytes are changed",
  async () => {
    const seeds = await Promise.all([
      helloFor("name.example.com", ["http/1.1"]),
      helloFor("a.example.com"),
      helloFor(`${"x".repeat(60)}.org`, ["h2"]),
    ]);
    const nameless = await helloFor("");
    let taken = 0;
    const exchanged = fc
      .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { maxLength: 2 }))
      .map(([hello, changes]) => {
        const bytes = Buffer.from(hello);
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        return bytes;
      });
    const server = (name: string): Buffer => Buffer.concat([Buffer.from([0, name.length + 3, 0, 0, name.length]), Buffer.from(name)]);
    const content = fc.oneof(
      fc.constantFrom("b.org", "name.example.com", "", "\0").map(server),
      fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
    );
    const extended = fc
      .tuple(fc.constantFrom(nameless, ...seeds), fc.array(fc.tuple(fc.constantFrom(0, 0, 0xfe0d, 0x1234, 21), content), { maxLength: 3 }))
      .map(([hello, extensions]) => extensions.reduce((bytes, [type, what]) => withExtension(bytes, type, what), hello));
    await fuzzed(
      fc.asyncProperty(fc.oneof(exchanged, extended, changed(fc.constantFrom(...seeds))), async (bytes) => {
        const mine = readClientHello(bytes);
        if (typeof mine === "string") return;
        const theirs = await opensslName(bytes);
        if (theirs === undefined) return;
        taken += 1;
        expect(theirs.toLowerCase()).toBe(mine.host.text);
      }),
      300,
    );
    expect(taken).toBeGreaterThan(20);
  },
  5_000 + LONGER_MS,
);

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

/** The hello with one extension more, all lengths right. */
function withExtension(hello: Buffer, type: number, content: Buffer): Buffer {
  const extension = Buffer.concat([Buffer.from([type >> 8, type & 255, content.length >> 8, content.length & 255]), content]);
  const bytes = Buffer.concat([hello, extension]);
  bytes.writeUInt16BE(bytes.length - 5, 3);
  bytes.writeUIntBE(bytes.length - 9, 6, 3);
  const lengthAt = bytes.length - extension.length - extensionsLength(hello) - 2;
  bytes.writeUInt16BE(extensionsLength(hello) + extension.length, lengthAt);
  return bytes;
}

function extensionsLength(hello: Buffer): number {
  let at = 9 + 2 + 32;
  at += 1 + (hello[at] ?? 0);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + (hello[at] ?? 0);
  return hello.readUInt16BE(at);
}
