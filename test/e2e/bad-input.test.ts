// What bad clients do to a server: ids of others on every route there is, bodies that break off, answers that nobody reads. Not shapes of
// bodies (serve.test.ts) nor nonsense at large (test/fuzz-api).

import { mkdtempSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import type { Client, SandboxHandle } from "../../src/api/client.ts";
import { errorCode } from "../../src/api/errors.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { chanceOf } from "../faults/chance.ts";
import { removeTree } from "../fixtures/remove-tree.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { type Operation, operationsOf } from "../fuzz-api/document.ts";
import { good } from "../fuzz-api/values.ts";
import { verifies } from "../verifies.ts";

let dir: string;
let server: ServerProcess;
let annKey: string;
let ann: Client;
let vic: Client;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-bad-");
  server = await startServerProcess(join(dir, "data"));
  const admin = new Corral({ url: server.url, key: server.key ?? "" });
  const keyOf = async (ownerId: string): Promise<string> => (await admin.tokens.issue({ ownerId, scope: "user", name: "t" })).secret;
  annKey = await keyOf("ann");
  ann = new Corral({ url: server.url, key: annKey });
  vic = new Corral({ url: server.url, key: await keyOf("vic") });
});
afterAll(async () => {
  await server.end("SIGTERM");
  removeTree(dir);
});

/** Ids by the names of a path's parts; `id` by what the path is of. */
type Ids = Readonly<Record<string, string>>;

/** What an id that stands in a path is answered with; the id itself taken out. */
async function answered({ method, path, parameters, body }: Operation, ids: Ids): Promise<string> {
  const noun = /^\/v1\/([a-z]+)s\//.exec(path)?.[1] ?? "";
  const used = new Set<string>();
  const named = path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => {
    const id = (name === "id" ? ids[noun] : ids[name]) ?? (name === "port" ? "3000" : "none");
    used.add(id);
    return id;
  });
  const chance = chanceOf(1);
  const query = parameters
    .filter((parameter) => parameter.in === "query" && parameter.required)
    .map(({ name, schema }) => `${name}=${encodeURIComponent(String(good(schema, chance, () => undefined, name)))}`);
  const wantsPath = parameters.some(({ name }) => name === "base64") ? ["path=/workspace/a"] : [];
  const hasBody = body !== undefined || method === "PUT";
  const bytes = body === undefined ? "hello" : JSON.stringify(good(body, chance, () => undefined));
  const response = await fetch(`${server.url}${named}?${[...query, ...wantsPath].join("&")}`, {
    method,
    headers: {
      authorization: `Bearer ${annKey}`,
      ...(hasBody ? { "content-type": body === undefined ? "application/octet-stream" : "application/json" } : {}),
    },
    ...(hasBody ? { body: bytes } : {}),
  });
  let text = await response.text();
  for (const id of used) text = text.replaceAll(id, "ID");
  return `${response.status} ${text.replace(/"requestId":"\w+"/, "")}`;
}

verifies(
  "server/foreign-ids",
  "on every route another owner's id is answered as one that never was, and nothing of theirs changes",
  async () => {
    const sandbox = await vic.create({});
    await sandbox.files.write("/workspace/flag", "theirs");
    const [process, shell, codebase, snapshot, template, secret] = await Promise.all([
      sandbox.processes.start({ command: ["cat"], stdin: true }),
      sandbox.shells.open({}),
      vic.codebases.create({ name: "theirs" }),
      sandbox.snapshot({ name: "theirs" }),
      vic.templates.create({ name: "theirs" }),
      vic.secrets.create({ name: "THEIRS", value: "a-value-of-theirs" }),
    ]);
    const foreign: Ids = {
      sandbox: sandbox.id,
      process: process.id,
      shell: shell.id,
      codebase: codebase.id,
      snapshot: snapshot.id,
      template: template.id,
      secret: secret.id,
      upload: "up00000000000000000000",
      token: (await vic.tokens.list()).items[0]?.id ?? "",
    };
    const unknown = Object.fromEntries(Object.entries(foreign).map(([name, id]) => [name, `${id.slice(0, -20)}${"0".repeat(20)}`]));
    const document: unknown = await (
      await fetch(`${server.url}/v1/openapi.json`, { headers: { authorization: `Bearer ${annKey}` } })
    ).json();
    const operations = operationsOf(document).filter(({ path }) => path.includes("{"));
    const others: string[] = [];
    for (const operation of operations) {
      const [theirs, nobodys] = [await answered(operation, foreign), await answered(operation, unknown)];
      expect(theirs, `${operation.method} ${operation.path}`).toBe(nobodys);
      if (!theirs.startsWith("404")) others.push(`${operation.method} ${operation.path}`);
    }
    // One asks for an admin's key first; to revoke what is no key of one's own is to have nothing to do. That their key holds is seen below.
    expect(others.toSorted()).toEqual(["DELETE /v1/tokens/{id}", "POST /v1/codebases/{id}/import"]);
    const codeOf = (call: Promise<unknown>): Promise<unknown> => call.then(() => "done", errorCode);
    expect(await codeOf(ann.create({ codebase: { id: codebase.id } }))).toBe("codebase_not_found");
    expect(await codeOf(ann.create({ template: template.id }))).toBe("template_not_found");
    expect(await codeOf(ann.create({ snapshot: snapshot.id }))).toBe("snapshot_not_found");
    expect(await sandbox.files.readText("/workspace/flag")).toBe("theirs");
    expect((await sandbox.processes.get(process.id)).end).toBeNull();
    await Promise.all([sandbox.shells.get(shell.id), vic.codebases.get(codebase.id), vic.templates.get(template.id), vic.tokens.list()]);
    expect((await vic.secrets.list()).items).toEqual([secret]);
    await sandbox.destroy();
  },
);

/** The head of a request, and so much of its body. */
async function opened(head: string, length: number | undefined, body: Buffer = Buffer.alloc(0)): Promise<Socket> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  const lines = [`${head} HTTP/1.1`, "host: x", `authorization: Bearer ${annKey}`, "content-type: application/octet-stream"];
  socket.write(`${[...lines, ...(length === undefined ? [] : [`content-length: ${length}`])].join("\r\n")}\r\n\r\n`);
  await new Promise((resolve) => socket.write(body, resolve));
  return socket;
}

/** What is written down of calls that broke off, so that a test need not guess when one was noticed. */
async function noticed(path: RegExp, count: number): Promise<void> {
  const admin = new Corral({ url: server.url, key: server.key ?? "" });
  await expect
    .poll(async () => JSON.stringify((await admin.audit.list({ limit: 100 })).items).match(new RegExp(path, "g"))?.length ?? 0, {
      timeout: 10_000,
    })
    .toBeGreaterThanOrEqual(count);
}

verifies("server/cut-uploads", "an upload that breaks off leaves nothing behind, and the next one is taken", async () => {
  const codebase = await ann.codebases.create({ name: "cut" });
  const template = await ann.templates.create({ name: "cut" });
  const part = Buffer.alloc(300_000, "x");
  const paths = [`/v1/codebases/${codebase.id}/tar`, `/v1/codebases/${codebase.id}/file?path=/a`, `/v1/templates/${template.id}/tar`];
  for (const path of paths) (await opened(`PUT ${path}`, 1_000_000, part)).destroy();
  await noticed(/"(cb|tpl)[a-z0-9]{20}"/, 3);
  expect((await ann.codebases.get(codebase.id)).version).toMatchObject({ number: 1, entries: 0 });
  const put = await fetch(`${server.url}/v1/codebases/${codebase.id}/file?path=/a`, {
    method: "PUT",
    headers: { authorization: `Bearer ${annKey}`, "content-type": "application/octet-stream" },
    body: part,
  });
  expect(put.status).toBe(200);
  expect((await ann.codebases.get(codebase.id)).version).toMatchObject({ number: 2, files: 1 });
  await ann.codebases.delete(codebase.id);
});

function residentKiB(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]);
}

verifies(
  "server/slow-readers",
  "answers that nobody reads cost the server no memory of their size and nobody else their turn",
  async () => {
    const sandbox: SandboxHandle = await ann.create({});
    await sandbox.exec({ command: "truncate -s 400M /tmp/large; mkdir /tmp/d; truncate -s 400M /tmp/d/large" });
    const { id } = await sandbox.processes.start({ command: "head -c 400000000 /dev/zero" });
    const of = `/v1/sandboxes/${sandbox.id}`;
    const before = residentKiB();
    const body = Buffer.from(JSON.stringify({ command: "head -c 400000000 /dev/zero" }));
    const exec = connect(Number(new URL(server.url).port), "127.0.0.1");
    exec.write(
      `POST ${of}/exec HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${annKey}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body.toString()}`,
    );
    const sockets = [
      exec,
      await opened(`GET ${of}/files/content?path=/tmp/large`, undefined),
      await opened(`GET ${of}/files/archive?path=/tmp/d`, undefined),
      await opened(`GET ${of}/processes/${id}/output?hold=true`, undefined),
    ];
    // Each has begun; then it stands.
    for (const socket of sockets) {
      const begun = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
      socket.pause();
      expect(begun.toString("latin1")).toMatch(/^HTTP\/1\.1 200/);
    }
    let last = -1;
    await expect.poll(() => last - (last = residentKiB()), { interval: 400 }).toBeGreaterThan(-1_000);
    expect(residentKiB() - before).toBeLessThan(200_000);
    expect((await sandbox.exec({ command: "echo on" })).exitCode).toBe(0);
    for (const socket of sockets) socket.destroy();
    await sandbox.destroy();
  },
);
