// Requests that are read: methods and paths over TLS, secrets on their way out and back, WebSockets, limits, and rules that change meanwhile.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import fc from "fast-check";
import { afterAll, beforeAll, expect } from "vitest";
import { EgressLab, get as requestFor, rest, until } from "../attack/egress-lab.ts";
import { LONGER_MS, runs } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import type { HostRule } from "../api/network.ts";
import { isPlaceholder, isSecretValue, Masker, needlesOf, newPlaceholder } from "./secrets.ts";

const CANARY = "s3cr3t/canary+value==0123456789";
let lab: EgressLab;
/** Headers and bodies that reached the API. */
const reached: { url: string; headers: IncomingMessage["headers"]; body: string }[] = [];

async function api(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  reached.push({ url: request.url ?? "", headers: request.headers, body });
  if (request.url === "/redirect") return void response.writeHead(302, { Location: "http://169.254.169.254/latest" }).end();
  response.setHeader("X-Mirror", request.headers.authorization ?? "none");
  if (request.url === "/length") return void response.end(`mirror ${request.headers.authorization} and ${body}`);
  const mirrored = Buffer.from(`mirror ${request.headers.authorization} ${JSON.stringify({ key: request.headers.authorization })} end`);
  for (let at = 0; at < mirrored.length; at += 5) {
    response.write(mirrored.subarray(at, at + 5));
    await new Promise((resolve) => setImmediate(resolve));
  }
  response.end();
}

beforeAll(async () => {
  lab = new EgressLab();
  await lab.https("api.example", (request, response) => void api(request, response));
  await lab.https("other.example", (request, response) => void api(request, response));
  await lab.https("wrong.example", (_request, response) => response.end("never"), "someone.example");
  const place = await lab.https("socket.example", (_request, response) => response.end());
  lab.outside.places.get(`${place.address} 443`);
});

afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const placeholder = newPlaceholder();
const secrets = [{ name: "TOKEN", placeholder, value: CANARY }];
const SECRET_RULE: HostRule = { host: "api.example", secrets: [{ name: "TOKEN" }] };

const open = (...allow: HostRule[]): Promise<string> => lab.sandbox({ allow }, { secrets });
const tls = (path: string, host: string): TLSSocket => lab.tls(path, host);
const ask = (path: string, host: string, request: string): Promise<string> => lab.askTls(path, host, request);
const get = (url: string, more = "", host = "api.example", method = "GET"): string => requestFor(url, host, more, method);

verifies("egress/inspected", "an upstream whose certificate is not for the host gets no request", async () => {
  const path = await open({ host: "wrong.example", methods: ["GET"] });
  expect(await ask(path, "wrong.example", get("/", "", "wrong.example"))).toMatch(/^HTTP\/1\.1 502 [^]*Corral-Upstream: tls/);
});

verifies("egress/inspected", "requests follow each other on one connection, with bodies of either framing", async () => {
  const path = await open({ host: "api.example", methods: ["GET", "POST"] });
  const inner = tls(path, "api.example");
  inner.write("POST /length HTTP/1.1\r\nHost: api.example\r\nContent-Length: 5\r\n\r\nhello");
  inner.write("POST /length HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  inner.write(get("/redirect"));
  const text = await rest(inner);
  expect(text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  expect(text).toContain("Location: http://169.254.169.254/latest");
  expect(reached.slice(-3).map(({ body }) => body)).toEqual(["hello", "abcde", ""]);
  const before = reached.length;
  expect(
    await ask(path, "api.example", "POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
  ).toMatch(/^(HTTP\/1\.1 400 |$)/);
  expect(reached.length).toBe(before);
});

verifies("egress/secret-bound", "credentials of Basic hold the value where the rule says so", async () => {
  const path = await open({ host: "api.example", secrets: [{ name: "TOKEN", format: "basic" }] });
  const basic = (secret: string): string => Buffer.from(`user:${secret}`).toString("base64");
  const answer = await ask(path, "api.example", get("/length", `Authorization: Basic ${basic(placeholder)}\r\n`));
  expect(reached.at(-1)?.headers.authorization).toBe(`Basic ${basic(CANARY)}`);
  expect(answer).toContain(`mirror Basic ${basic(placeholder)} and`);
  expect(answer).not.toContain(basic(CANARY));
});

verifies("egress/secret-masked", "what an answer mirrors of a value is the placeholder again, wherever it is cut", async () => {
  const path = await open(SECRET_RULE);
  for (const url of ["/chunks", "/length"]) {
    const answer = await ask(path, "api.example", get(url, `Authorization: Bearer ${placeholder}\r\n`));
    expect(reached.at(-1)?.headers).toMatchObject({ authorization: `Bearer ${CANARY}`, "accept-encoding": "identity" });
    expect(answer).not.toContain(CANARY);
    expect(answer).toContain(`X-Mirror: Bearer ${placeholder}\r\n`);
    expect(answer.replaceAll(/\r\n[0-9a-f]+\r\n/g, "")).toContain(`mirror Bearer ${placeholder}`);
  }
  await lab.told(path);
  expect(JSON.stringify(lab.verdicts), "no verdict holds it").not.toContain(CANARY);
});

verifies("egress/secret-bound", "a value that could break a head, or be found everywhere, is no secret", () => {
  expect([CANARY, "x".repeat(8_192)].every(isSecretValue)).toBe(true);
  expect(["short", "x".repeat(8_193), "has\r\nX: y", "nul\0nul12", "späteräöü", " padded12 "].some(isSecretValue)).toBe(false);
  expect([isPlaceholder(newPlaceholder()), isPlaceholder("corral_x"), isPlaceholder(CANARY)]).toEqual([true, false, false]);
});

verifies(
  "egress/secret-masked",
  "a stream is masked as the whole would be, however it is cut",
  () => {
    const needles = needlesOf([
      { name: "A", placeholder: "corral_a", value: "abcabcabd" },
      { name: "B", placeholder: "corral_b", value: "abcabx" },
    ]);
    const text = fc
      .array(fc.constantFrom("abc", "abcabd", "abcabcabd", "ab", "x", "abcabx", "d"), { maxLength: 12 })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 7 }), (whole, size) => {
        const masker = new Masker(needles);
        const out: Buffer[] = [];
        for (let at = 0; at < whole.length; at += size) out.push(masker.take(Buffer.from(whole.slice(at, at + size))));
        out.push(masker.end());
        const all = new Masker(needles);
        expect(Buffer.concat(out).toString()).toBe(Buffer.concat([all.take(Buffer.from(whole)), all.end()]).toString());
        expect(Buffer.concat(out).includes("abcabcabd") || Buffer.concat(out).includes("abcabx")).toBe(false);
      }),
      runs(500),
    );
  },
  5_000 + LONGER_MS,
);

verifies("egress/limits", "a byte rate holds both ways back, and says by how much", async () => {
  await lab.tcp("sink.example", (socket) => socket.pipe(socket), 7);
  const id = "rate";
  const path = await lab.open(
    id,
    lab.state({ allow: [{ host: "sink.example", ports: [7], tls: false }] }, { limits: { bytesPerSecond: 400_000 } }),
  );
  const socket = lab.enter(path, "name sink.example 7 -");
  socket.end(Buffer.alloc(120_000, "x"));
  expect((await rest(socket)).length).toBe(120_000);
  const metrics = lab.core.metrics().find((some) => some.id === id);
  expect(metrics).toMatchObject({ sentBytes: 120_000, receivedBytes: 120_000 });
  expect(metrics?.slowedMs).toBeGreaterThan(100);
});

verifies("egress/own-way", "a thousand connections of fifty sandboxes meet nobody else's rules or bytes", async () => {
  const place = await lab.tcp("cross.example", (socket) => socket.pipe(socket), 9);
  const paths = await Promise.all(
    Array.from({ length: 50 }, async (_, index) => {
      lab.outside.names.set(`n${index}.example`, [[place.address]]);
      return await lab.open(`cross-${index}`, lab.state({ allow: [{ host: `n${index}.example`, ports: [9], tls: false }] }));
    }),
  );
  const talks = Array.from({ length: 1_000 }, async (_, index) => {
    const own = index % 50;
    const asked = index % 3 === 0 ? (own + 1) % 50 : own;
    const socket = lab.enter(paths[own] ?? "", `name n${asked}.example 9 -`);
    const words = `connection ${index} `.repeat(100);
    socket.end(words);
    expect(await rest(socket)).toBe(asked === own ? words : "");
  });
  await Promise.all(talks);
  await Promise.all(paths.map((_path, index) => lab.core.close(`cross-${index}`)));
});

verifies("egress/limits", "an answer that nobody takes, and a client that is gone, hold no connection", async () => {
  await lab.https(
    "slow.example",
    (request, response) => void (request.url === "/pour" ? response.write(Buffer.alloc(4_000_000)) : undefined),
  );
  const id = "unread";
  const path = await lab.open(
    id,
    lab.state({ allow: [{ host: "slow.example", methods: ["GET"] }] }, { limits: { idleMs: 500, headMs: 500 } }),
  );
  const unread = tls(path, "slow.example");
  unread.pause();
  unread.write(get("/pour", "", "slow.example"));
  const gone = tls(path, "slow.example");
  gone.write(get("/never", "", "slow.example"));
  gone.once("secureConnect", () => setTimeout(() => gone.destroy(), 20));
  const openNow = (): number | undefined => lab.core.metrics().find((some) => some.id === id)?.open;
  while (openNow() !== 2) await new Promise((resolve) => setTimeout(resolve, 5));
  while (openNow() !== 0) await new Promise((resolve) => setTimeout(resolve, 20));
});

verifies("egress/inspected", "a WebSocket passes both ways once its request is carried; another protocol is not asked for", async () => {
  const place = await lab.https("ws.example", (_request, response) => response.end());
  expect(place.port).toBe(443);
  lab.upgradeAt("ws.example", (socket, auth) => {
    socket.write("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.on("data", (bytes: Buffer) => socket.write(bytes.toString() === "leak" ? auth : bytes));
  });
  const path = await open({ host: "ws.example", secrets: [{ name: "TOKEN" }] });
  const inner = tls(path, "ws.example");
  inner.write(
    `GET /chat HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer ${placeholder}\r\n\r\n`,
  );
  expect(await until(inner, "\r\n\r\n")).toContain("HTTP/1.1 101 ");
  inner.write("frame");
  expect(await until(inner, "frame")).toBe("frame");
  inner.write("leak");
  expect(await rest(inner)).toBe("");
  expect(await ask(path, "ws.example", get("/", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "ws.example"))).toMatch(/^HTTP\/1\.1 400 /);
});
