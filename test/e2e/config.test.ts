// Every key of the configuration does something: one effect each, against a real server or store.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { get as httpsGet } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SandboxHandle } from "../../src/api/client.ts";
import { errorCode } from "../../src/api/errors.ts";
import { configKeys } from "../../src/config/schema.ts";
import { selfSigned } from "../fixtures/certificate.ts";
import { postgresMissing } from "../fixtures/postgres.ts";
import { gitHere, importedFrom } from "../fixtures/git-here.ts";
import { keyed, waiting } from "../fixtures/numbers-here.ts";
import { listenInside } from "../fixtures/inside.ts";
import { MCP_EFFECTS } from "../fixtures/mcp-effects.ts";
import { QUOTA_EFFECTS } from "../fixtures/quota-effects.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { endPostgres, STORE_EFFECTS } from "../fixtures/store-effects.ts";
import { verifies } from "../verifies.ts";

const AT_ONCE = 4;
/** Longer than a window, so that a poll may hit one and miss the next. */
const SOON = { interval: 700 };
const LAUNCHER = join(import.meta.dirname, "..", "..", "corral");

let dir: string;
beforeAll(() => {
  dir = mkdtempSync("/tmp/corral-config-");
  chmodSync(dir, 0o755);
  gitHere(join(dir, "repository"));
});
afterAll(async () => {
  await endPostgres();
  rmSync(dir, { recursive: true, force: true });
});

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

/** What is seen with a key set that is not seen without. */
const EFFECTS: Readonly<Record<string, () => Promise<void>>> = {
  "listen.host": async () => {
    await using server = await startServerHere({ "listen.host": "127.0.0.2" });
    expect(new URL(server.url).hostname).toBe("127.0.0.2");
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  },
  "listen.port": async () => {
    const port = await freePort();
    await using server = await startServerHere({ "listen.port": String(port) });
    expect(server.url).toBe(`http://127.0.0.1:${port}`);
  },
  "tls.certFile": withTls,
  "tls.keyFile": wrongTls,
  origins: async () => {
    await using server = await startServerHere({ origins: "https://app.example" });
    const status = async (origin: string): Promise<number> => (await fetch(`${server.url}/healthz`, { headers: { origin } })).status;
    expect([await status("https://app.example"), await status("https://evil.example")]).toEqual([200, 403]);
  },
  "http.bodyBytes": async () => {
    await using server = await startServerHere({ "http.bodyBytes": "100" });
    const post = (name: string): Promise<Response> =>
      fetch(`${server.url}/v1/tokens`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.key}`, "content-type": "application/json" },
        body: JSON.stringify({ ownerId: "ann", scope: "user", name }),
      });
    expect([(await post("a")).status, (await post("a".repeat(101))).status]).toEqual([201, 413]);
  },
  "http.connections": async () => {
    await using server = await startServerHere({ "http.connections": "2" });
    const open = await Promise.all([dial(server), dial(server)]);
    const third = await dial(server);
    await once(third.resume(), "close");
    for (const socket of open) socket.destroy();
    await expect
      .poll(
        () =>
          fetch(`${server.url}/healthz`).then(
            ({ status }) => status,
            () => 0,
          ),
        SOON,
      )
      .toBe(200);
  },
  "http.headersBytes": async () => {
    await using server = await startServerHere({ "http.headersBytes": "2000" });
    expect(await answer(await dial(server), `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(2_100)}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 413 .*request_too_large/s,
    );
    expect(
      await answer(await dial(server), `GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: ${"a".repeat(1_000)}\r\n\r\n`),
    ).toMatch(/^HTTP\/1.1 200/);
  },
  "http.headersTimeoutMs": async () => {
    await using server = await startServerHere({ "http.headersTimeoutMs": "100" });
    expect(await answer(await dial(server), "GET /healthz HTTP/1.1\r\nhost: ")).toMatch(/^HTTP\/1.1 408 .*request_timeout/s);
  },
  "http.requestTimeoutMs": async () => {
    await using server = await startServerHere({ "http.requestTimeoutMs": "100", "http.headersTimeoutMs": "100" });
    const head = `POST /v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${server.key}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n`;
    expect(await answer(await dial(server), `${head}{`)).toMatch(/^HTTP\/1.1 408 .*request_timeout/s);
  },
  "http.idleTimeoutMs": async () => {
    await using server = await startServerHere({ "http.idleTimeoutMs": "100" });
    expect(await answer(await dial(server), "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")).toMatch(/^HTTP\/1.1 200/); // until it is closed
  },
  "http.trustedProxies": async () => {
    const addresses = async (proxies: string): Promise<number[]> => {
      await using server = await startServerHere({ "http.trustedProxies": proxies, "rateLimits.perAddress.requests": "1" });
      return await statuses(
        server,
        ["1.1.1.1", "2.2.2.2"].map((from) => ({ "x-forwarded-for": from })),
      );
    };
    expect([await addresses("127.0.0.0/8"), await addresses("")]).toEqual([
      [200, 200],
      [200, 429],
    ]);
  },
  ...STORE_EFFECTS,
  ...QUOTA_EFFECTS,
  ...MCP_EFFECTS,
  "proxy.origin": async () => {
    await using server = await startServerHere({ "proxy.origin": "http://boxes.example" });
    expect(await proxied(server, (port) => `3000-${port.id}.boxes.example`)).toBe(401); // not public
    await using without = await startServerHere();
    expect(await proxied(without, (port) => `3000-${port.id}.boxes.example`)).toBe(200); // the API's own
  },
  "proxy.connections": async () => {
    await using server = await startServerHere({ "proxy.connections": "1" });
    const sandbox = await server.admin.create({});
    await listenInside(sandbox, 3000, 'socket.write("HTTP/1.1 200 OK\\r\\n\\r\\n")');
    const first = await fetch(`${server.url}/v1/sandboxes/${sandbox.id}/ports/3000/`, { headers: keyed(server) });
    expect(await statuses(server, [keyed(server)], `/v1/sandboxes/${sandbox.id}/ports/3000/`)).toEqual([429]);
    await first.body?.cancel();
  },
  "proxy.idleTimeoutMs": async () => {
    await using server = await startServerHere({ "proxy.idleTimeoutMs": "100" });
    const sandbox = await server.admin.create({});
    await listenInside(sandbox, 3000, "");
    expect(await statuses(server, [keyed(server)], `/v1/sandboxes/${sandbox.id}/ports/3000/`)).toEqual([504]);
  },
  "rateLimits.perToken.requests": async () => {
    await using server = await startServerHere({ "rateLimits.perToken.requests": "2", "rateLimits.perToken.windowMs": "3600000" });
    expect(
      await statuses(
        server,
        Array.from({ length: 3 }, () => keyed(server)),
        "/v1/sandboxes",
      ),
    ).toEqual([200, 200, 429]);
  },
  "rateLimits.perToken.windowMs": async () => {
    await using server = await startServerHere({ "rateLimits.perToken.requests": "1", "rateLimits.perToken.windowMs": "500" });
    const key = keyed(server);
    await expect.poll(() => statuses(server, [key, key], "/v1/sandboxes"), SOON).toContain(429);
    await expect.poll(() => statuses(server, [key], "/v1/sandboxes"), SOON).toEqual([200]);
  },
  "rateLimits.perAddress.requests": async () => {
    await using server = await startServerHere({ "rateLimits.perAddress.requests": "2", "rateLimits.perAddress.windowMs": "3600000" });
    expect(await statuses(server, [{}, {}, {}])).toEqual([200, 200, 429]);
  },
  "rateLimits.perAddress.windowMs": async () => {
    await using server = await startServerHere({ "rateLimits.perAddress.requests": "1", "rateLimits.perAddress.windowMs": "500" });
    await expect.poll(() => statuses(server, [{}, {}]), SOON).toContain(429);
    await expect.poll(() => statuses(server, [{}]), SOON).toEqual([200]);
  },
  "log.level": async () => {
    const logged = async (level: string): Promise<boolean> => {
      await using server = await startServerHere({ "log.level": level });
      await statuses(server, [{}]);
      return server.lines.some((line) => line.includes('"route":"/readyz"'));
    };
    expect([await logged("info"), await logged("debug")]).toEqual([false, true]);
  },
  "log.format": async () => {
    const first = async (format: string): Promise<string> => {
      const child = spawn(LAUNCHER, ["serve", "--port", "0", "--data", join(dir, "log"), "--set", `log.format=${format}`]);
      const line = new Promise<string>((resolve) => child.stderr.once("data", (chunk: Buffer) => resolve(chunk.toString())));
      const ended = once(child, "exit");
      expect(await Promise.race([line, ended.then(String)])).toContain("serving");
      child.kill("SIGTERM");
      await ended;
      return await line;
    };
    expect(JSON.parse(await first("auto"))).toMatchObject({ level: "info", msg: "serving" });
    expect(await first("pretty")).toMatch(/INFO.*: serving/);
  },
  "metrics.host": async () => {
    await using server = await startServerHere({ "metrics.port": "0", "metrics.host": "127.0.0.3" });
    expect(server.metricsUrl).toMatch(/^http:\/\/127\.0\.0\.3:/);
  },
  "metrics.port": async () => {
    await using server = await startServerHere({ "metrics.port": "0" });
    expect((await fetch(`${server.metricsUrl}/metrics`)).status).toBe(200);
    expect(await statuses(server, [keyed(server)], "/metrics")).toEqual([404]);
  },
  "templates.mirror": async () => {
    await using server = await startServerHere({ "templates.mirror": "file:///no-such-mirror" });
    const { id } = await server.admin.templates.create({ name: "x", from: { debootstrap: { suite: "bookworm" } } });
    await expect.poll(async () => (await server.admin.templates.get(id)).reason, SOON).toMatch(/no-such-mirror|debootstrap/);
  },
  "git.protocols": async () => expect(await importedFrom(`file://${dir}/repository`, { "git.protocols": "https,file" })).toBe("passed"),
  // Where a host is not named, a key of scope user is told `forbidden`: of the client suite.
  "git.hosts": async () => expect(await importedFrom("https://127.0.0.1:9/x", { "git.hosts": "127.0.0.1" }, "ann")).toBe("git_failed"),
  "git.maxBytes": async () =>
    expect(await importedFrom(`file://${dir}/repository`, { "git.protocols": "file", "git.maxBytes": "20" })).toBe("git_failed"),
  "git.timeoutMs": async () =>
    expect(await importedFrom(`file://${dir}/repository`, { "git.protocols": "file", "git.timeoutMs": "1" })).toBe("git_failed"),
  "network.ceiling": async () => {
    await using server = await startServerHere({ "network.ceiling": "none" });
    const sandbox = await server.admin.create({ network: { allow: ["npm"] } });
    expect((await sandbox.info()).network?.cut).toEqual([{ rule: 0, left: "none" }]);
  },
  "pool.perTemplate": () => waiting({ "pool.perTemplate": "2" }, 2),
  "pool.max": () => waiting({ "pool.perTemplate": "3", "pool.max": "1" }, 1),
  "pool.idleMs": () => waiting({ "pool.perTemplate": "1", "pool.idleMs": "2000" }, 1, 0),
  "interpreters.pythonModules": async () => {
    await using server = await startServerHere({ "interpreters.pythonModules": "wave" });
    const sandbox = await server.admin.create({});
    const { results } = await sandbox.contexts.runAlone({ code: "import sys; [name in sys.modules for name in ('wave', 'decimal')]" });
    expect(results[0]?.mime["text/plain"]).toBe("[True, False]");
  },
  drainMs: async () => {
    const server = await startServerHere({ drainMs: "50" });
    const sandbox = await server.admin.create({});
    const command = sandbox.exec({ command: "echo; sleep 600" }).then(() => "passed", errorCode);
    await expect.poll(async () => (await sandbox.exec({ command: "pgrep -c sleep || true" })).stdout.toString(), SOON).not.toBe("");
    await server[Symbol.asyncDispose]();
    expect(await command).toBe("stream_cut");
  },
};
const NEEDS_POSTGRES = /^store\.(url|pool\.)/;

describe("every key does something", () => {
  it("has a test", () => {
    expect(Object.keys(EFFECTS)).toEqual([...configKeys().keys()]);
  });

  verifies(
    "server/config-keys",
    "no key of the configuration is read by nobody",
    async () => {
      await seeAll(Object.entries(EFFECTS).filter(([key]) => !NEEDS_POSTGRES.test(key)));
    },
    240_000,
  );

  it("those of PostgreSQL too", async (context) => {
    const missing = postgresMissing();
    if (missing !== undefined) return context.skip(missing);
    // One after the other: they share a database.
    for (const [key, effect] of Object.entries(EFFECTS)) if (NEEDS_POSTGRES.test(key)) await effect();
  }, 240_000);
});

/** Each has a server or a database of its own, and most of its time is waiting: several at once. Throws all that failed, by key. */
async function seeAll(effects: [string, () => Promise<void>][]): Promise<void> {
  const failed: string[] = [];
  const seeNext = async (): Promise<void> => {
    for (let next = effects.pop(); next !== undefined; next = effects.pop()) {
      const [key, effect] = next;
      await effect().catch((error: unknown) => failed.push(`${key}: ${error instanceof Error ? (error.stack ?? "") : String(error)}`));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, seeNext));
  expect(failed).toEqual([]);
}

/** The status of `/healthz` on a host of a new sandbox. */
async function proxied(server: ServerHere, hostOf: (sandbox: SandboxHandle) => string): Promise<number | undefined> {
  const asked = httpRequest(`${server.url}/healthz`, { headers: { host: hostOf(await server.admin.create({})) } });
  asked.end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  response.resume();
  return response.statusCode;
}

/** One request after the other. */
async function statuses({ url }: ServerHere, headers: readonly Record<string, string>[], path = "/readyz"): Promise<number[]> {
  const found: number[] = [];
  for (const one of headers) found.push((await fetch(`${url}${path}`, { headers: one })).status);
  return found;
}

async function withTls(): Promise<void> {
  const { cert, key } = selfSigned();
  await using server = await startServerHere({ "tls.certFile": file("tls.crt", cert), "tls.keyFile": file("tls.key", key) });
  expect(server.url).toMatch(/^https:/);
  const status = await new Promise((resolve, reject) => {
    httpsGet(`${server.url}/healthz`, { ca: cert }, (response) => resolve(response.statusCode)).on("error", reject);
  });
  expect(status).toBe(200);
  expect(server.localUrl).toMatch(/^http:\/\/127\.0\.0\.1:/);
  expect((await server.admin.list()).items).toEqual([]); // over the loopback, without TLS
}

async function wrongTls(): Promise<void> {
  const certFile = file("one.crt", selfSigned().cert);
  const refused = (keyFile: string): Promise<string> =>
    startServerHere({ "tls.certFile": certFile, "tls.keyFile": keyFile }).then(
      () => "passed",
      (error: Error) => `${errorCode(error)} ${error.message}`,
    );
  expect(await refused(file("two.key", selfSigned().key))).toMatch(/^tls_invalid .*the key is not that of the certificate/);
  expect(await refused(join(dir, "none.key"))).toMatch(/^tls_invalid tls.keyFile: .*none.key cannot be read \(ENOENT\)/);
  expect(await refused(file("no.key", "no PEM"))).toMatch(/^tls_invalid .*no certificate and key in PEM/);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function dial({ url }: ServerHere): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

/** All that is answered until the server closes. */
async function answer(socket: Socket, text: string): Promise<string> {
  let got = "";
  socket.on("data", (chunk: Buffer) => (got += chunk.toString()));
  socket.write(text);
  await once(socket, "close");
  return got;
}
