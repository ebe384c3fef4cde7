// Ports of sandboxes below the API's origin, against real programs inside: what passes, what does not, and how it ends.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { SandboxHandle } from "../../src/api/client.ts";
import { ACCEPT, listenInside, serveInside } from "../fixtures/inside.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

let server: ServerHere;
let sandbox: SandboxHandle;

beforeAll(async () => {
  server = await startServerHere({ "proxy.idleTimeoutMs": "2000" });
  sandbox = await server.admin.create({ limits: { memoryBytes: 512 * 1024 ** 2 } }); // 10 MB a second
  await serveInside(
    sandbox,
    3000,
    `const { url, method, headers } = request;
     if (url === "/echo") { response.writeHead(201, { "x-inside": "yes" }); request.pipe(response); return; }
     if (url === "/cookies") { response.writeHead(200, { "set-cookie": "a=b", "content-security-policy": "default-src *", "clear-site-data": '"*"', "access-control-allow-origin": "*", connection: "x-private", "x-private": "1" }); response.end(); return; }
     if (url === "/events") { response.writeHead(200, { "content-type": "text/event-stream" }); response.write("data: 1\\n\\n"); request.socket.on("close", () => console.log("left")); return; }
     if (url === "/endless") { const more = () => { do globalThis.sent = (globalThis.sent ?? 0) + 65536; while (response.write(Buffer.alloc(65536))); }; response.on("drain", more); more(); return; }
     if (url === "/sent") { response.end(String(globalThis.sent)); return; }
     if (url === "/cut") { response.writeHead(200, { "content-length": 100 }); response.write("half"); setTimeout(() => request.socket.destroy(), 50); return; }
     if (url === "/early") { response.writeHead(403, { connection: "close" }); response.end("no"); return; }
     if (url === "/silent") return;
     let body = ""; request.on("data", (part) => body += part); request.on("end", () => response.end(JSON.stringify({ url, method, headers, body, raw: request.rawHeaders })));`,
    `${ACCEPT} socket.pipe(socket);`,
  );
});
afterAll(() => server[Symbol.asyncDispose]());

interface Seen {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

function at(path: string, init: RequestInit = {}, key = server.key): Promise<Response> {
  const headers = { ...(key === "" ? {} : { authorization: `Bearer ${key}` }), ...(init.headers as Record<string, string>) };
  return fetch(`${server.url}/v1/sandboxes/${sandbox.id}/ports/3000${path}`, { ...init, headers });
}

async function refusal(response: Response): Promise<readonly [number, string | undefined]> {
  return [response.status, ((await response.json()) as { error?: { code: string } }).error?.code];
}

verifies(
  "server/port-path",
  "a key reaches a port inside: method, path, query and body pass as they are, and so does the answer",
  async () => {
    const seen = (await (await at("/a%2Fb/%7Ec?d=%20&e", { method: "PATCH", body: "hello" })).json()) as Seen;
    expect(seen).toMatchObject({ url: "/a%2Fb/%7Ec?d=%20&e", method: "PATCH", body: "hello" });
    expect(((await (await at("")).json()) as Seen).url).toBe("/");
    expect(((await (await at("?x=1")).json()) as Seen).url).toBe("/?x=1");
    const sent = Buffer.alloc(5_000_000, "abcdefg");
    const echo = await at("/echo", { method: "POST", body: Readable.toWeb(Readable.from([sent])), duplex: "half" });
    expect([echo.status, echo.headers.get("x-inside")]).toEqual([201, "yes"]);
    expect(Buffer.from(await echo.arrayBuffer()).equals(sent)).toBe(true);
    expect((await at("/x", { method: "HEAD" })).status).toBe(200);
    // A body that has no length keeps its frame, whatever the method.
    const framed = (await (
      await at("/x", { method: "DELETE", body: Readable.toWeb(Readable.from(["one"])), duplex: "half" })
    ).json()) as Seen;
    expect(framed).toMatchObject({ method: "DELETE", body: "one" });
  },
);

verifies("server/port-key", "no key and no cookie of ours goes inside, and who has no key, or another owner's, gets nothing", async () => {
  const { headers } = (await (
    await at("/x", { headers: { cookie: "session=1", "corral-key": server.key, "x-forwarded-for": "1.2.3.4", te: "trailers" } })
  ).json()) as Seen;
  expect(JSON.stringify(headers)).not.toContain(server.key);
  expect(headers).not.toHaveProperty("cookie");
  expect(headers).toMatchObject({
    host: "localhost:3000",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-prefix": `/v1/sandboxes/${sandbox.id}/ports/3000`,
  });
  expect(await refusal(await at("/x", {}, ""))).toEqual([401, "unauthorized"]);
  expect(await refusal(await at("/x", {}, await server.keyOf("bob")))).toEqual([404, "sandbox_not_found"]);
  expect(await refusal(await at("/x", { headers: { origin: "https://evil.example" } }))).toEqual([403, "forbidden"]);
});

verifies("server/port-answer", "what a sandbox answers below the API's origin cannot act there", async () => {
  const { headers } = await at("/cookies");
  expect(headers.get("content-security-policy")).toBe("sandbox; default-src 'none'; frame-ancestors 'none'");
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  for (const name of ["set-cookie", "clear-site-data", "access-control-allow-origin", "x-private"])
    expect(headers.get(name), name).toBeNull();
});

verifies("server/port-errors", "what goes wrong inside is told by its code", async () => {
  const other = async (port: number | string): Promise<readonly [number, string | undefined]> =>
    await refusal(
      await fetch(`${server.url}/v1/sandboxes/${sandbox.id}/ports/${port}/`, { headers: { authorization: `Bearer ${server.key}` } }),
    );
  expect(await other(3999)).toEqual([502, "port_closed"]);
  expect(await other(0)).toEqual([400, "request_invalid"]);
  expect(await other("65536")).toEqual([400, "request_invalid"]);
  expect(await refusal(await at("/silent"))).toEqual([504, "port_timeout"]);
  const replies = [
    "no HTTP at all\\r\\n\\r\\n",
    "HTTP/1.1 200 OK\\r\\ncontent-length: 1\\r\\ncontent-length: 2\\r\\n\\r\\nx",
    "HTTP/1.1 101 Switching\\r\\nupgrade: x\\r\\nconnection: upgrade\\r\\n\\r\\n",
  ];
  for (const [index, reply] of replies.entries()) {
    await listenInside(sandbox, 3100 + index, `socket.on("data", () => socket.end("${reply}"))`);
    expect(await other(3100 + index), reply).toEqual([502, "port_reply_invalid"]);
  }
  await listenInside(sandbox, 3200, 'socket.on("data", () => socket.write("HTTP/1.1 200 OK\\r\\nx: " + "a".repeat(100000)))');
  expect(await other(3200)).toEqual([502, "port_reply_invalid"]);
  const gone = await server.admin.create({});
  await gone.destroy();
  const response = await fetch(`${server.url}/v1/sandboxes/${gone.id}/ports/3000/`, { headers: { authorization: `Bearer ${server.key}` } });
  expect(await refusal(response)).toEqual([404, "sandbox_not_found"]);
});

verifies(
  "server/port-streams",
  "an answer streams as it comes, a slow client slows the program, and a cut one is never taken for whole",
  async () => {
    const events = await at("/events");
    const reader = events.body?.getReader();
    expect(Buffer.from((await reader?.read())?.value ?? "").toString()).toBe("data: 1\n\n");
    await reader?.cancel();
    const slow = await at("/endless");
    const sent = async (): Promise<number> => Number(await (await at("/sent")).text());
    let last = -1;
    await expect.poll(async () => last === (last = await sent()), { interval: 300 }).toBe(true);
    expect(last).toBeGreaterThan(0);
    expect(last).toBeLessThan(64 * 1024 ** 2);
    await slow.body?.cancel();
    const cut = await at("/cut");
    await expect(cut.text()).rejects.toThrow();
    // An answer before the request is whole: it comes through, and the next request has a connection that works.
    const early = await at("/early", { method: "POST", body: Buffer.alloc(300_000) });
    expect([early.status, await early.text()]).toEqual([403, "no"]);
    expect((await at("/x")).status).toBe(200);
  },
);

verifies(
  "server/port-rate",
  "what passes faster than a sandbox's size grants is slowed, all of it arrives, and the metrics tell",
  async () => {
    const slowed = async (): Promise<number> => {
      const metrics = await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${server.key}` } });
      return Number(/^corral_proxy_slowed_seconds_total (\S+)$/m.exec(await metrics.text())?.[1]);
    };
    const [before, body] = [await slowed(), randomBytes(4_000_000)];
    const whole: boolean[] = [];
    const echo = async (): Promise<void> => {
      whole.push(Buffer.from(await (await at("/echo", { method: "POST", body })).arrayBuffer()).equals(body));
    };
    // A machine that has much else to do carries less than is granted, for a while.
    const faster = async (): Promise<number> => {
      await Promise.all([echo(), echo(), echo()]);
      return await slowed();
    };
    await expect.poll(faster).toBeGreaterThan(before);
    expect(new Set(whole)).toEqual(new Set([true]));
  },
);

verifies("server/port-websocket", "a WebSocket passes through, in both directions", async () => {
  const url = `${server.url.replace("http", "ws")}/v1/sandboxes/${sandbox.id}/ports/3000/socket`;
  const sent = Buffer.alloc(200_000, "x");
  // The program inside sends back bytes as they are, which no client of WebSockets takes for frames: it is read raw.
  const raw = connect(Number(new URL(server.url).port), "127.0.0.1");
  raw.write(
    `GET ${new URL(url).pathname} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${server.key}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n`,
  );
  raw.write(sent);
  let got = Buffer.alloc(0);
  raw.on("data", (chunk: Buffer) => (got = Buffer.concat([got, chunk])));
  await expect.poll(() => got.subarray(-sent.length).equals(sent)).toBe(true);
  expect(got.toString("latin1", 0, 12)).toBe("HTTP/1.1 101");
  raw.destroy();
  for (const [key, port, status] of [
    ["ckwrong", 3000, 401],
    [server.key, 3999, 502],
  ] as const) {
    const refused = new WebSocket(url.replace("/3000/", `/${port}/`), { headers: { authorization: `Bearer ${key}` } });
    const [, response] = (await once(refused, "unexpected-response")) as [unknown, { statusCode: number }];
    expect(response.statusCode).toBe(status);
    refused.on("error", () => undefined).terminate();
  }
});

it("answers a client that offers HTTP/2 in HTTP/1.1", async () => {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.end("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n\r\n");
  expect((await buffer(socket)).toString()).toMatch(/^HTTP\/1\.1 200 OK/);
});

verifies("server/port-bounds", "a sandbox has so many connections to its ports and no more, and each that ends makes room", async () => {
  await using narrow = await startServerHere({ "proxy.connections": "5" });
  const full = await narrow.admin.create({});
  await listenInside(full, 3000, 'socket.on("data", () => socket.write("HTTP/1.1 200 OK\\r\\n\\r\\n"))');
  const ask = (): Promise<Response> =>
    fetch(`${narrow.url}/v1/sandboxes/${full.id}/ports/3000/`, { headers: { authorization: `Bearer ${narrow.key}` } });
  const held = await Promise.all(Array.from({ length: 5 }, ask));
  expect(held.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  expect(await refusal(await ask())).toEqual([429, "limit_reached"]);
  await held[0]?.body?.cancel();
  await expect.poll(async () => (await ask()).status).toBe(200);
  await full.destroy();
});

verifies("server/port-resume", "a request for a port of a paused sandbox resumes it", async () => {
  await sandbox.pause();
  expect((await at("/x")).status).toBe(200);
  expect(await sandbox.info()).toMatchObject({ state: "running" });
});
