// The proxy before a network that is made up: plain http, tunnels, names and addresses, what is refused and how it looks.

import type { Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { afterAll, beforeAll, expect } from "vitest";
import { EgressLab, get, rest, until } from "../attack/egress-lab.ts";
import { verifies } from "../../test/verifies.ts";
import type { NetworkPolicy } from "../api/network.ts";

let lab: EgressLab;

beforeAll(async () => {
  lab = new EgressLab();
  await lab.http("plain.example", (request, response) => {
    response.setHeader("X-Host", request.headers.host ?? "");
    response.end(`${request.method} ${request.url}`);
  });
  await lab.https("secure.example", (request, response) => response.end(`secure ${request.url}`));
  await lab.tcp("echo.example", (socket) => socket.pipe(socket), 7);
});

afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const sandbox = (policy: NetworkPolicy): Promise<string> => lab.sandbox(policy);
const ask = (path: string, request: string, line?: string): Promise<string> => lab.ask(path, request, line);

verifies("egress/allow-list", "plain http goes through the proxy where a rule says so, and is told", async () => {
  const path = await sandbox({ allow: [{ host: "plain.example", ports: [80], tls: false }] });
  const answer = await ask(path, get("http://plain.example/a?b=c", "plain.example"), "proxy 17:curl");
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*X-Host: plain\.example\r\n[^]*GET \/a\?b=c/);
  const told = await lab.told(path);
  expect(told.at(-1)).toMatchObject({
    way: "proxy",
    process: "17:curl",
    outcome: "allowed",
    host: "plain.example",
    port: 80,
    method: "GET",
    path: "/a",
    rule: 0,
    count: 1,
  });
});

verifies("egress/refusal-looks", "a refusal, a fault of the other side and a limit look different to a program", async () => {
  const path = await sandbox({
    allow: [
      { host: "gone.example", ports: [80], tls: false },
      { host: "nowhere.example", ports: [80], tls: false },
      { host: "plain.example", ports: [80], tls: false, rate: { requests: 1, perMs: 60_000 } },
    ],
  });
  lab.outside.names.set("gone.example", [["203.0.113.99"]]);
  const refused = await ask(path, get("http://other.example/", "other.example"));
  expect(refused).toMatch(/^HTTP\/1\.1 403 [^]*Corral-Refused: no-rule\r\n/);
  expect(refused).toContain(
    "corral: egress to other.example:80 is not allowed: no rule matches. The owner of this sandbox can allow it.\n",
  );
  expect(await ask(path, "CONNECT other.example:443 HTTP/1.0\r\n\r\n"), "as Python asks").toMatch(/^HTTP\/1\.1 403 /);
  expect(await ask(path, get("http://gone.example/", "gone.example"))).toMatch(/^HTTP\/1\.1 502 [^]*Corral-Upstream: connect/);
  expect(await ask(path, get("http://nowhere.example/", "nowhere.example"))).toMatch(/^HTTP\/1\.1 502 [^]*Corral-Upstream: dns/);
  expect(await ask(path, get("http://plain.example/", "plain.example"))).toMatch(/^HTTP\/1\.1 200 /);
  expect(await ask(path, get("http://plain.example/", "plain.example"))).toMatch(/^HTTP\/1\.1 429 [^]*Retry-After: (59|60)\r\n/);
});

verifies("egress/tunnel", "a tunnel carries TLS whose name is the one that was asked for, unread", async () => {
  const path = await sandbox({ allow: [{ host: "secure.example" }] });
  const socket = lab.enter(path, "proxy -");
  socket.write("CONNECT secure.example:443 HTTP/1.1\r\nHost: secure.example:443\r\n\r\n");
  expect(await until(socket, "\r\n\r\n")).toBe("HTTP/1.1 200 Connection Established\r\n\r\n");
  const inner = tlsConnect({ socket, servername: "secure.example", ca: [lab.publicAuthority.certificate] });
  inner.write(get("/in", "secure.example"));
  expect(await rest(inner)).toContain("secure /in");
  const direct = tlsConnect({
    socket: lab.enter(path, "name secure.example 443 9:x"),
    servername: "secure.example",
    ca: [lab.publicAuthority.certificate],
  });
  direct.write(get("/direct", "secure.example"));
  expect(await rest(direct)).toContain("secure /direct");
});

verifies("egress/allow-list", "raw bytes pass both ways, half-closed or not, where a rule wants no TLS", async () => {
  const path = await sandbox({
    allow: [
      { host: "echo.example", ports: [7], tls: false },
      { cidr: "203.0.113.0/24", ports: [7] },
    ],
  });
  const socket = lab.enter(path, "name echo.example 7 -");
  socket.end("ping");
  expect(await rest(socket)).toBe("ping");
  const [[address = ""] = []] = lab.outside.names.get("echo.example") ?? [];
  const byAddress = lab.enter(path, `address ${address} 7 -`);
  byAddress.end("pong");
  expect(await rest(byAddress)).toBe("pong");
  expect(await ask(path, "x", "name echo.example 8 -")).toBe("");
  expect(await ask(path, "x", "address 198.51.100.1 7 -")).toBe("");
});

verifies("egress/in-order", "a reader that stops and goes on gets every byte in its place, and so does a server", async () => {
  const sent = Buffer.from(Uint32Array.from({ length: 1 << 20 }, (_, index) => index).buffer);
  const taken = Promise.withResolvers<Buffer>();
  await lab.tcp("numbers.example", (socket) => {
    socket.end(sent);
    void slowly(socket).then(taken.resolve);
  });
  const path = await sandbox({ allow: [{ host: "numbers.example", tls: false }] });
  const socket = lab.enter(path, "name numbers.example 443 -");
  socket.end(sent);
  expect((await slowly(socket)).equals(sent)).toBe(true);
  expect((await taken.promise).equals(sent)).toBe(true);
});

/** All that comes, with a stop after each piece, in which the other side fills what lies between. */
async function slowly(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of socket) {
    pieces.push(piece as Buffer);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return Buffer.concat(pieces);
}

verifies("server/egress-metrics", "what moved is told once, before anybody asks", async () => {
  const path = await sandbox({ allow: [{ host: "echo.example", ports: [7], tls: false }] });
  const news = (): unknown => lab.core.news().find(({ id }) => path.includes(`/${id}/`));
  expect(news()).toBeUndefined();
  expect(await ask(path, "ping", "name other.example 7 -")).toBe("");
  expect(news()).toMatchObject({ connections: 1, refused: 1 });
  expect(news()).toBeUndefined();
});

verifies(
  "egress/names-answered",
  "names are answered inside where a rule names them, and nothing is asked outside for the others",
  async () => {
    const path = await sandbox({ allow: [{ host: "plain.example" }, { host: "*.wild.example", ports: [22, 5432] }] });
    const before = lab.outside.resolved.length;
    const socket = lab.enter(path, "resolve 4:ping");
    socket.end("plain.example\na.wild.example\nwild.example\nsecret-data.evil.example\n203.0.113.1\nlocalhost\n");
    expect(await rest(socket)).toBe("yes 443\nyes 22 5432\nno\nno\nno\nno\n");
    expect(lab.outside.resolved.length).toBe(before);
    const open = await sandbox({ open: true });
    const asked = lab.enter(open, "resolve -");
    asked.end("plain.example\nunknown.example\n");
    expect(await rest(asked)).toBe("yes 80 443 22 8080 8443\nno\n");
  },
);

verifies("egress/entry-strict", "a first line that is not one of the four is nothing", async () => {
  const path = await sandbox({ open: true });
  const long = "x".repeat(500);
  for (const line of [
    "",
    "proxy",
    "proxy  -",
    "PROXY -",
    "proxy 0:x",
    "proxy 1:",
    "proxy 1:a b",
    "name plain.example 80",
    "name plain.example 0 -",
    "name plain.example 65536 -",
    "name 203.0.113.1 80 -",
    "address plain.example 80 -",
    "name Plain.example\0 80 -",
    "resolve - -",
    `proxy 1:${long}`,
    "proxy -\r",
  ])
    expect(await ask(path, get("http://plain.example/", "plain.example"), line), JSON.stringify(line)).toBe("");
});
