// Bytes and requests through the egress proxy beside a direct connection over loopback, in turn. Client and server are this process, the
// proxy is its own, before a network whose only address is loopback. The guest's part is not in it.

import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Duplex, Writable } from "node:stream";
import { connect as tlsConnect } from "node:tls";
import { createAuthority, LeafMint, type Authority } from "../src/egress/certificate.ts";
import { EgressProxy } from "../src/egress/proxy.ts";
import { CONFINED_ID, startConfinedNode } from "../src/runtime/confined-node.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row, timed } from "./bench.ts";

const ID = "egress";
const MB = 1e6;
const ROOT = join(import.meta.dirname, "..");
const PIECE = Buffer.alloc(256 * 1024, "x");
/** First byte of a connection to the plain server: send so much, or send it back. */
const SOURCE = "s";
const ECHO = "e";

interface Lab extends AsyncDisposable {
  readonly plainPort: number;
  readonly tlsPort: number;
  readonly authority: Authority;
  readonly publicAuthority: Authority;
  readonly socket: string;
}

function pour(to: Writable, bytes: number): void {
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      const piece = PIECE.subarray(0, Math.min(left, PIECE.length));
      left -= piece.length;
      if (!to.write(piece)) return void to.once("drain", more);
    }
    to.end();
  };
  more();
}

async function openLab(context: BenchContext, bytes: number): Promise<Lab> {
  const authority = createAuthority(Date.now());
  const publicAuthority = createAuthority(Date.now());
  const plain = createServer((socket) => {
    socket.on("error", () => socket.destroy()).setNoDelay(true);
    socket.once("data", (first: Buffer) => {
      if (first.toString() === SOURCE) return pour(socket, bytes);
      socket.write(first);
      socket.pipe(socket);
    });
  });
  const { certificate, key } = new LeafMint(publicAuthority).leaf("read.example", Date.now());
  const secure = createHttpsServer({ cert: certificate, key }, (_request, response) => pour(response, bytes));
  const [plainPort, tlsPort] = await Promise.all([listening(plain), listening(secure)]);
  const socketsDir = join(context.scratch, "s");
  mkdirSync(socketsDir);
  const program = join(ROOT, "test", "fixtures", "egress-worker.ts");
  const proxy = new EgressProxy({
    socketsDir,
    authority,
    upstreamCa: [publicAuthority.certificate],
    start: (cwd) => startConfinedNode({ program, cwd, reads: [join(ROOT, "src"), join(ROOT, "test")], writes: [cwd] }),
    ...(process.getuid?.() === 0 ? { id: CONFINED_ID } : {}),
    onVerdict: () => undefined,
  });
  const allow = [
    { host: "plain.example", ports: [plainPort], tls: false },
    { host: "read.example", ports: [tlsPort], methods: ["GET"] },
  ];
  const { socket } = await proxy.open("sb-bench", { version: 1, policy: { allow }, ceiling: { open: true }, secrets: [] });
  const close = async (): Promise<void> => {
    await proxy[Symbol.asyncDispose]();
    plain.close();
    secure.closeAllConnections();
    secure.close();
  };
  return { plainPort, tlsPort, authority, publicAuthority, socket, [Symbol.asyncDispose]: close };
}

function listening(server: Server | HttpsServer): Promise<number> {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)));
}

function through(lab: Lab, host: string, port: number): Socket {
  const socket = connect({ path: lab.socket });
  socket.write(`name ${host} ${port} -\n`);
  return socket;
}

function direct(port: number): Socket {
  return connect({ host: "127.0.0.1", port, noDelay: true });
}

/** MB/s of all that comes until the end. */
async function rate(socket: Duplex, ask: string, bytes: number): Promise<number> {
  const ms = await timed(
    () =>
      new Promise<void>((resolve, reject) => {
        let seen = 0;
        socket.write(ask);
        socket.on("data", (chunk: Buffer) => void (seen += chunk.length));
        socket.once("error", reject);
        socket.once("end", () => (seen >= bytes ? resolve() : reject(new Error(`${seen} of ${bytes} bytes came`))));
      }),
  );
  socket.destroy();
  return bytes / MB / (ms / 1000);
}

/** ms until a new connection has given a byte back. */
async function turn(open: () => Socket): Promise<number> {
  return await timed(
    () =>
      new Promise<void>((resolve, reject) => {
        const socket = open();
        socket.write(ECHO);
        socket.once("error", reject);
        socket.once("data", () => {
          socket.destroy();
          resolve();
        });
      }),
  );
}

async function* run(context: BenchContext): AsyncIterable<Row> {
  const bytes = context.quick ? 100 * MB : 500 * MB;
  const rounds = context.quick ? 3 : 10;
  await using lab = await openLab(context, bytes);
  const step = (what: string) => (done: number, total: number) => context.progress(what, done, total);
  const tunnel = await inTurn({
    n: rounds,
    warmup: 1,
    ours: () => rate(through(lab, "plain.example", lab.plainPort), SOURCE, bytes),
    theirs: () => rate(direct(lab.plainPort), SOURCE, bytes),
    progress: step(`${bytes / MB} MB through a tunnel`),
  });
  const against = "a direct connection over loopback";
  yield row({
    id: ID,
    metric: "tunnel",
    unit: "MB/s",
    samples: tunnel.ours,
    against: { name: against, samples: tunnel.theirs },
    paired: true,
    target: "≥ 400 MB/s",
    judge: ({ p50 }) => p50 >= 400,
  });
  const turns = await inTurn({
    n: context.quick ? 200 : 1_000,
    warmup: 20,
    ours: () => turn(() => through(lab, "plain.example", lab.plainPort)),
    theirs: () => turn(() => direct(lab.plainPort)),
    progress: step("a new connection and one byte back"),
  });
  yield row({
    id: ID,
    metric: "added to a new connection's first byte",
    unit: "ms",
    samples: turns.ours.map((ms, index) => ms - (turns.theirs[index] ?? 0)),
    target: "≤ 1 ms p50",
    judge: ({ p50 }) => p50 <= 1,
    note: `direct: ${Math.min(...turns.theirs).toFixed(2)} ms at best`,
  });
  const ask = "GET / HTTP/1.1\r\nHost: read.example:PORT\r\nConnection: close\r\n\r\n".replace("PORT", String(lab.tlsPort));
  const secure = (socket: Socket, { certificate }: Authority): Duplex =>
    tlsConnect({ socket, servername: "read.example", ca: [certificate] });
  const read = await inTurn({
    n: rounds,
    warmup: 1,
    ours: () => rate(secure(through(lab, "read.example", lab.tlsPort), lab.authority), ask, bytes),
    theirs: () => rate(secure(direct(lab.tlsPort), lab.publicAuthority), ask, bytes),
    progress: step(`${bytes / MB} MB of TLS that is read`),
  });
  yield row({
    id: ID,
    metric: "TLS that is read",
    unit: "MB/s",
    samples: read.ours,
    against: { name: against, samples: read.theirs },
    paired: true,
    target: "told",
  });
}

export const bench: Bench = { id: ID, what: "Bytes and requests through the egress proxy", run };
