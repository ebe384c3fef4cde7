// The server before strangers: how often they may ask, how many connections they may hold, how slowly they may speak.
// CORRAL_TEST_CONNECTIONS=10000 opens so many connections instead of two thousand (with `ulimit -n` above it).

import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../src/api/errors.ts";
import { rateLimits } from "../../src/server/rate-limits.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

const CONNECTIONS = Number(process.env["CORRAL_TEST_CONNECTIONS"] ?? 2_000);

let dir: string;
beforeAll(() => {
  dir = mkdtempSync("/tmp/corral-edge-");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly body: { readonly error?: { readonly code: string; readonly retryAfterMs?: number } };
}

async function ask({ url }: ServerHere, key: string): Promise<Answer> {
  const response = await fetch(`${url}/v1/sandboxes`, { headers: key === "" ? {} : { authorization: `Bearer ${key}` } });
  return { status: response.status, retryAfter: response.headers.get("retry-after"), body: (await response.json()) as Answer["body"] };
}

describe("how often one may ask", () => {
  verifies("server/rate-token", "a key that asks too often is told when to come again, and other keys are served", async () => {
    await using server = await startServerHere({ "rateLimits.perToken.requests": "20", "rateLimits.perToken.windowMs": "60000" });
    const [ann, bob] = [await server.keyOf("ann"), await server.keyOf("bob")];
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(server, ann)));
    expect(answers.filter(({ status }) => status === 200).length).toBe(20);
    const refused = answers.find(({ status }) => status === 429);
    expect(refused?.body.error?.code).toBe("rate_limited");
    const { retryAfterMs = 0 } = refused?.body.error ?? {};
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(retryAfterMs).toBeLessThanOrEqual(60_000);
    expect(Number(refused?.retryAfter)).toBe(Math.ceil(retryAfterMs / 1000));
    expect((await ask(server, bob)).status).toBe(200);
  });

  verifies("server/rate-address", "who guesses keys is refused before the database is asked, and keys that hold still pass", async () => {
    await using server = await startServerHere({ "rateLimits.perAddress.requests": "5", "rateLimits.perAddress.windowMs": "60000" });
    const key = await server.keyOf("ann");
    expect((await ask(server, key)).status).toBe(200);
    const guesses: number[] = [];
    for (let n = 0; n < 8; n++) guesses.push((await ask(server, `ck${n}`)).status);
    expect(guesses).toEqual([401, 401, 401, 401, 401, 429, 429, 429]);
    expect((await ask(server, "")).status).toBe(429);
    expect((await fetch(`${server.url}/none`)).status).toBe(429);
    expect((await ask(server, key)).status).toBe(200);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  verifies(
    "server/rate-bounded",
    "any number of addresses costs no more memory than there are buckets, and a /64 of IPv6 counts as one",
    async () => {
      const limits = rateLimits({ perToken: { requests: 1, windowMs: 60_000 }, perAddress: { requests: 2, windowMs: 3_600_000 } });
      const code = (address: string): Promise<string | undefined> => limits.countStranger(address).then(() => "passed", errorCode);
      expect(await code("2001:db8::1")).toBe("passed");
      expect(await code("2001:db8:0:0:ffff::2")).toBe("passed");
      expect(await code("2001:db8:0:0::3%eth0")).toBe("rate_limited");
      expect(await code("2001:db8:0:1::1")).toBe("passed");
      const used = (): number => process.memoryUsage().heapUsed;
      const fill = async (from: number): Promise<void> => {
        for (let n = 0; n < 120_000; n++) await code(`10.${from}.${n >> 8}.${n & 255}`);
      };
      await fill(1); // every bucket is there now
      globalThis.gc?.();
      const before = used();
      for (const from of [2, 3]) await fill(from);
      globalThis.gc?.();
      expect(used() - before).toBeLessThan(64 * 1024 ** 2);
    },
  );
});

describe("connections", () => {
  verifies(
    "server/slow-clients",
    "thousands of connections that ask slowly or nothing take nothing from those who ask, and are cut off",
    async () => {
      await using server = await startServerProcess(`${dir}/data`, ["--set", "http.headersTimeoutMs=8000"]);
      const port = Number(new URL(server.url).port);
      const residentBefore = residentBytes(server.pid);
      const idle: Socket[] = [];
      for (let n = 0; n < CONNECTIONS; n++) {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => undefined).resume();
        idle.push(socket);
        if (n % 100 === 99) await once(socket, "connect");
        // One kind begins a request, the other says nothing.
        if (n % 2 === 0) socket.write("GET /healthz HTTP/1.1\r\nhost: ");
      }
      for (let n = 0; n < 20; n++) expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
      expect(idle.filter(({ destroyed }) => destroyed).length).toBe(0);
      expect((residentBytes(server.pid) - residentBefore) / CONNECTIONS).toBeLessThan(64 * 1024);
      await expect.poll(() => idle.filter(({ closed }) => closed).length, { timeout: 40_000, interval: 500 }).toBe(CONNECTIONS);
      expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    },
    120_000,
  );

  it("answers what is no HTTP with an error of the table, and mends nothing", async () => {
    await using server = await startServerHere();
    const port = Number(new URL(server.url).port);
    const cases = [
      "hello\r\n\r\n",
      "GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
      "POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
      "GET /healthz HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
    ];
    for (const text of cases) {
      const socket = connect(port, "127.0.0.1");
      let got = "";
      socket.on("data", (chunk: Buffer) => (got += chunk.toString()));
      socket.write(text);
      await once(socket, "close");
      expect(got, text).toMatch(/^HTTP\/1\.1 400 .*"code":"request_invalid"/s);
    }
  });
});

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
}
