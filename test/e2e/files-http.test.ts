// Files over bare HTTP: what the SDK does not show - ranges, types, broken bodies, event streams.

import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { afterAll, beforeAll, expect } from "vitest";
import type { SandboxHandle } from "../../src/api/client.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

let dir: string;
let server: ServerProcess;
let sandbox: SandboxHandle;
const key = (): string => server.key ?? "";

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-files-http-");
  server = await startServerProcess(dir);
  sandbox = await new Corral({ url: server.url, key: key() }).create({});
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

function ask(path: string, init: Omit<RequestInit, "headers"> & { headers?: Record<string, string> } = {}): Promise<Response> {
  const headers = { authorization: `Bearer ${key()}`, ...init.headers };
  return fetch(`${server.url}/v1/sandboxes/${sandbox.id}/files${path}`, { ...init, headers });
}

async function codeOf(response: Response): Promise<[number, string]> {
  const { error } = (await response.json()) as { error: { code: string } };
  return [response.status, error.code];
}

verifies(
  "files/http-ranges",
  "a Range header gets that part, one behind the end is refused with the size, a strange one gets all",
  async () => {
    await sandbox.files.write("/workspace/f", "0123456789");
    const get = async (range: string) => {
      const response = await ask("/content?path=/workspace/f", { headers: { range } });
      return [response.status, response.headers.get("content-range"), response.headers.get("content-length"), await response.text()];
    };
    expect(await get("bytes=2-4")).toEqual([206, "bytes 2-4/10", "3", "234"]);
    expect(await get("bytes=7-")).toEqual([206, "bytes 7-9/10", "3", "789"]);
    expect(await get("bytes=-3")).toEqual([206, "bytes 7-9/10", "3", "789"]);
    expect(await get("bytes=-30")).toEqual([206, "bytes 0-9/10", "10", "0123456789"]);
    expect(await get("bytes=8-100")).toEqual([206, "bytes 8-9/10", "2", "89"]);
    for (const range of ["bytes=4-2", "bytes=-0", "bytes=1-2,4-5", "lines=1-2", "bytes=x"])
      expect(await get(range), range).toEqual([200, null, "10", "0123456789"]);
    const behind = await ask("/content?path=/workspace/f", { headers: { range: "bytes=10-" } });
    expect([behind.headers.get("content-range"), await codeOf(behind)]).toEqual(["bytes */10", [416, "range_invalid"]]);
    const whole = await ask("/content?path=/workspace/f");
    const types = ["content-type", "x-content-type-options", "accept-ranges", "corral-file-size"].map((name) => whole.headers.get(name));
    expect(types).toEqual(["application/octet-stream", "nosniff", "bytes", "10"]);
    expect((await ask("/content?path=/workspace/f", { method: "HEAD" })).headers.get("content-length")).toBe("10");
  },
);

verifies(
  "files/http-bodies",
  "a body is the file whatever type it says; what a query may not say is refused before anything is read",
  async () => {
    const put = (query: string, headers: Record<string, string> = {}, body: string | Uint8Array<ArrayBuffer> = '{"a": 1') =>
      ask(`/content?${query}`, { method: "PUT", body, headers });
    for (const type of ["application/json", "text/html; charset=x", "multipart/form-data"]) {
      expect((await put("path=/workspace/t", { "content-type": type })).status, type).toBe(201);
      expect(await sandbox.files.readText("/workspace/t")).toBe('{"a": 1');
    }
    expect((await put("path=/workspace/none", {}, new Uint8Array(0))).status).toBe(201);
    expect((await ask("/content?path=/workspace/none2", { method: "PUT" })).status).toBe(201);
    expect((await sandbox.files.stat("/workspace/none2")).size).toBe(0);
    for (const query of [
      "",
      "path=",
      "path=/a&base64=L2E=",
      "path=/a&path=/b",
      "path=/a%00b",
      "path=/a&unknown=1",
      "path=/a&mode=9",
      "path=/a&append=yes",
      "base64=%%%",
      "path=/a&append=true&offset=1",
    ])
      expect(await codeOf(await put(query)), query).toEqual([400, "request_invalid"]);
    const large = { "content-length": String(2 ** 45) };
    const answer = await raw(
      `PUT /v1/sandboxes/${sandbox.id}/files/content?path=/workspace/t HTTP/1.1`,
      { ...large, connection: "close" },
      "x",
    );
    expect(answer).toMatch(/^HTTP\/1.1 413 [\s\S]*request_too_large/);
    expect(await sandbox.files.readText("/workspace/t")).toBe('{"a": 1');
  },
);

verifies("files/cut-off", "a connection that breaks in the middle of a body changes no file", async () => {
  await sandbox.files.write("/workspace/cut", "old");
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  const head = `PUT /v1/sandboxes/${sandbox.id}/files/content?path=/workspace/cut HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key()}\r\ncontent-length: 3000000\r\n\r\n`;
  socket.write(head);
  socket.write(Buffer.alloc(1_000_000, 1));
  await new Promise((go) => setTimeout(go, 300));
  socket.destroy();
  await new Promise((go) => setTimeout(go, 300));
  expect(await sandbox.files.readText("/workspace/cut")).toBe("old");
  const { stdout } = await sandbox.exec({ command: "ls -A | grep -c corral || true" });
  expect(Buffer.from(stdout).toString()).toBe("0\n");
});

verifies(
  "files/http-events",
  "a watch is a stream of events with ids; who comes back with one is told that some may be missing",
  async () => {
    const stop = new AbortController();
    const headers = { "last-event-id": "7" };
    const response = await ask("/watch?path=/workspace&recursive=true", { headers, signal: stop.signal });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const reader = response.body?.getReader();
    let seen = "";
    const until = async (text: string) => {
      while (!seen.includes(text)) seen += Buffer.from((await reader?.read())?.value ?? new Uint8Array(0)).toString();
    };
    await until("overflow");
    await sandbox.files.write("/workspace/seen", "");
    await until("/workspace/seen");
    expect(seen).toMatch(
      /^id: 1\nevent: ready\ndata: \{.*\}\n\nid: 1\nevent: overflow\ndata: .*\n\nid: 2\nevent: create\ndata: .*\/workspace\/seen/,
    );
    stop.abort();
    expect(await codeOf(await ask("/watch?path=/none"))).toEqual([404, "file_not_found"]);
  },
);

/** One request as it is written; what comes until the connection closes. */
async function raw(line: string, headers: Record<string, string>, body: string): Promise<string> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  const all = { host: "x", authorization: `Bearer ${key()}`, ...headers };
  socket.write(
    `${line}\r\n${Object.entries(all)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")}\r\n${body}`,
  );
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
