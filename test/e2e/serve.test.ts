// `corral serve` as a client meets it: a real process, real sandboxes, the SDK and plain HTTP.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../src/api/errors.ts";
import type { Client } from "../../src/api/client.ts";
import { openDataDir } from "../../src/sandbox/data-dir.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { Postgres, postgresMissing } from "../fixtures/postgres.ts";
import { type ServerProcess, startServerProcess } from "../fixtures/server.ts";
import { verifies } from "../verifies.ts";

let dir: string;
let server: ServerProcess;
let admin: Client;
let ann: Client;
let bob: Client;
let annKey: string;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-serve-");
  mkdirSync(join(dir, "code"));
  writeFileSync(join(dir, "code", "hello.txt"), "hello\n");
  writeFileSync(join(dir, "code", ".env"), "SECRET=1\n");
  server = await startServerProcess(join(dir, "data"));
  admin = new Corral({ url: server.url, key: server.key ?? "" });
  annKey = (await admin.tokens.issue({ ownerId: "ann", scope: "user", name: "laptop" })).secret;
  ann = new Corral({ url: server.url, key: annKey });
  bob = new Corral({ url: server.url, key: (await admin.tokens.issue({ ownerId: "bob", scope: "user", name: "laptop" })).secret });
});
afterAll(async () => {
  await server.end("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});

/** What a server that has ended left of itself, but for its records. */
function remainsOf(data: string): readonly string[] {
  const { run, journal, deltas } = openDataDir({ path: data, env: process.env, uid: process.getuid?.() ?? 0 });
  return [run, journal, deltas].flatMap((place) => readdirSync(place).map((name) => join(place, name)));
}

/** The spawner that holds the sandboxes of a server. */
function spawnerOf(data: string): number {
  const { run } = openDataDir({ path: data, env: process.env, uid: process.getuid?.() ?? 0 });
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== "1");
  return Number(pids.find((pid) => readText(`/proc/${pid}/cmdline`).includes(join(run, "native.spawner"))));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // it ended meanwhile
  }
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const codeOf = (call: Promise<unknown>): Promise<string | undefined> => call.then(() => "passed", errorCode);

async function raw(
  path: string,
  init: RequestInit & { key?: string } = {},
): Promise<{ status: number; body: { error?: { code: string; message: string } } }> {
  const { key = annKey, headers, ...rest } = init;
  const authorization: Record<string, string> = key === "" ? {} : { authorization: `Bearer ${key}` };
  const response = await fetch(`${server.url}${path}`, { ...rest, headers: { ...authorization, ...(headers as Record<string, string>) } });
  return { status: response.status, body: (await response.json()) as { error?: { code: string; message: string } } };
}

function post(body: string): RequestInit {
  return { method: "POST", body, headers: { "content-type": "application/json" } };
}

describe("corral serve", () => {
  verifies("server/exec", "a client makes a sandbox, runs commands in it and gets their bytes and result", async () => {
    await using sandbox = await ann.create({ env: { WHO: "ann" }, metadata: { job: "7" } });
    const result = await sandbox.exec({ command: "cat; echo $WHO >&2; exit 3", stdin: Buffer.from([0, 255, 10]) });
    expect([...result.stdout]).toEqual([0, 255, 10]);
    expect(text(result.stderr)).toBe("ann\n");
    expect(result).toMatchObject({ exitCode: 3, signal: null, timedOut: false, truncated: false });
    expect(await sandbox.exec({ command: ["sleep", "60"], timeoutMs: 100 })).toMatchObject({ exitCode: 124, timedOut: true });
    expect(await codeOf(sandbox.exec({ command: "true", cwd: "not-absolute" }))).toBe("request_invalid");
    expect(await sandbox.info()).toMatchObject({ state: "running", ownerId: "ann", metadata: { job: "7" } });
  });

  it("streams output as it comes, whole and in order, to a slow reader", async () => {
    await using sandbox = await ann.create({});
    let bytes = 0;
    const onStdout = async (chunk: Uint8Array): Promise<void> => {
      bytes += chunk.length;
      if (bytes < 1_000_000) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const result = await sandbox.exec({ command: "head -c 20000000 /dev/zero", onStdout });
    expect([bytes, result.exitCode, result.stdout.length]).toEqual([20_000_000, 0, 0]);
  });

  it("tells the same as lines of JSON", async () => {
    await using sandbox = await ann.create({});
    const init = post(JSON.stringify({ command: "echo hi" }));
    const response = await fetch(`${server.url}/v1/sandboxes/${sandbox.id}/exec`, {
      ...init,
      headers: { authorization: `Bearer ${annKey}`, "content-type": "application/json", accept: "application/x-ndjson" },
    });
    const lines = (await response.text())
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { kind: string; data: unknown });
    expect(lines.map(({ kind }) => kind)).toEqual(["start", "stdout", "end"]);
    expect(lines[1]?.data).toBe(Buffer.from("hi\n").toString("base64"));
  });

  verifies("server/keys", "without a key that holds nothing is answered, and a revoked one does not hold", async () => {
    for (const key of ["", "x", "ck0000000000000000000000000000000000000000"])
      expect(await raw("/v1/sandboxes", { key })).toMatchObject({ status: 401, body: { error: { code: "unauthorized" } } });
    expect((await raw("/v1/openapi.json", { key: "" })).status).toBe(401);
    const { id, secret } = await admin.tokens.issue({ ownerId: "ann", scope: "user", name: "short" });
    expect((await raw("/v1/sandboxes", { key: secret })).status).toBe(200);
    expect(await ann.tokens.revoke(id)).toBe(true);
    expect((await raw("/v1/sandboxes", { key: secret })).status).toBe(401);
    expect(await codeOf(ann.tokens.issue({ ownerId: "ann", scope: "admin", name: "more" }))).toBe("forbidden");
    expect(await codeOf(ann.tokens.list({ ownerId: "bob" }))).toBe("forbidden");
  });

  verifies("server/key-cut", "what is under way with a key ends within a second of its revocation or its end", async () => {
    await using sandbox = await ann.create({});
    const revoked = await admin.tokens.issue({ ownerId: "ann", scope: "user", name: "revoked" });
    const short = await admin.tokens.issue({ ownerId: "ann", scope: "user", name: "short", expiresInMs: 1_000 });
    const calls = [revoked, short].map(({ secret }) => {
      const client = new Corral({ url: server.url, key: secret });
      const { promise: started, resolve } = Promise.withResolvers<void>();
      const ended = client.sandbox(sandbox.id).exec({ command: "echo up; sleep 60", onStdout: () => resolve() });
      return { started, code: codeOf(ended) };
    });
    const own = ann.sandbox(sandbox.id).exec({ command: "echo kept; sleep 3" });
    await Promise.all(calls.map(({ started }) => started));
    expect(await admin.tokens.revoke(revoked.id, { ownerId: "ann" })).toBe(true);
    expect(await Promise.all(calls.map(({ code }) => code))).toEqual(["stream_cut", "stream_cut"]);
    expect((await own).exitCode).toBe(0);
    const { id, secret } = await admin.tokens.issue({ ownerId: "ann", scope: "user", name: "own" });
    expect(await new Corral({ url: server.url, key: secret }).tokens.revoke(id)).toBe(true);
  });

  verifies("server/owners", "another owner's sandbox answers as one that never was", async () => {
    await using sandbox = await ann.create({});
    const never = `sb${"0".repeat(20)}`;
    for (const id of [sandbox.id, never]) {
      const handle = bob.sandbox(id);
      expect(await codeOf(handle.info())).toBe("sandbox_not_found");
      expect(await codeOf(handle.exec({ command: "true" }))).toBe("sandbox_not_found");
      expect(await codeOf(handle.renew(1_000))).toBe("sandbox_not_found");
    }
    await bob.sandbox(sandbox.id).destroy(); // told that there is none
    expect((await sandbox.exec({ command: "true" })).exitCode).toBe(0);
    expect((await bob.list()).items).toEqual([]);
    expect((await admin.list()).items.map(({ id }) => id)).toContain(sandbox.id);
  });

  verifies("server/sandbox-key", "a key for one sandbox reaches that sandbox alone", async () => {
    await using sandbox = await ann.create({});
    await using other = await ann.create({});
    const { secret } = await admin.tokens.issue({ ownerId: "ann", scope: "sandbox", sandboxId: sandbox.id, name: "agent" });
    const agent = new Corral({ url: server.url, key: secret });
    expect((await agent.sandbox(sandbox.id).exec({ command: "true" })).exitCode).toBe(0);
    expect((await agent.list()).items.map(({ id }) => id)).toEqual([sandbox.id]);
    expect(await codeOf(agent.sandbox(other.id).info())).toBe("sandbox_not_found");
    expect(await codeOf(agent.create({}))).toBe("forbidden");
    expect(await codeOf(agent.tokens.list())).toBe("forbidden");
  });

  verifies("server/host-paths", "only an admin key names a directory of the server's machine, and no policy file by name", async () => {
    const codebaseDir = join(dir, "code");
    expect(await codeOf(ann.create({ codebaseDir }))).toBe("forbidden");
    expect(await codeOf(admin.create({ policy: "/etc/passwd" }))).toBe("preset_unknown");
    await using sandbox = await admin.create({ codebaseDir });
    const { stdout, stderr } = await sandbox.exec({ command: "cat hello.txt; cat .env" });
    expect(text(stdout)).toBe("hello\n");
    expect(text(stderr)).toContain("No such file");
  });

  verifies("server/idempotent-create", "one key makes one sandbox, and another request with it is a conflict", async () => {
    const made = await Promise.allSettled(Array.from({ length: 5 }, () => ann.create({}, { idempotencyKey: "once" })));
    const ids = made.flatMap((one) => (one.status === "fulfilled" ? [one.value.id] : []));
    expect(new Set(ids).size).toBe(1);
    for (const one of made) if (one.status === "rejected") expect(errorCode(one.reason)).toBe("sandbox_state");
    const again = await ann.create({}, { idempotencyKey: "once" });
    expect(again.id).toBe(ids[0]);
    expect(await codeOf(ann.create({ metadata: { a: "b" } }, { idempotencyKey: "once" }))).toBe("idempotency_conflict");
    await again.destroy();
    await again.destroy();
    expect(await codeOf(again.exec({ command: "true" }))).toBe("sandbox_not_found");
  });

  verifies("server/expiry", "a sandbox ends at its time, unless that was moved", async () => {
    const short = await ann.create({ timeoutMs: 300 });
    // Long enough for a busy machine to move it in time; the second one tells when its old end is past.
    const moved = await ann.create({ timeoutMs: 4_000 });
    await moved.renew(null);
    const later = await ann.create({ timeoutMs: 4_000 });
    await expect.poll(() => codeOf(short.info())).toBe("sandbox_not_found");
    expect(await codeOf(short.renew(1_000))).toBe("sandbox_not_found");
    await expect.poll(() => codeOf(later.info())).toBe("sandbox_not_found");
    expect(await moved.info()).toMatchObject({ state: "running", endAt: null });
    await moved.destroy();
  });

  verifies(
    "server/bad-input",
    "a request of a wrong shape is told by its path, and nothing but a code of the table is answered",
    async () => {
      const cases: readonly (readonly [string, RequestInit, number, string])[] = [
        ["/v1/sandboxes", post('{"timeoutMs":"x"}'), 400, "request_invalid"],
        ["/v1/sandboxes", post('{"policies":"agent-safe"}'), 400, "request_invalid"],
        ["/v1/sandboxes", post("{"), 400, "request_invalid"],
        ["/v1/sandboxes", post(""), 400, "request_invalid"],
        ["/v1/sandboxes", { method: "POST", body: "x", headers: { "content-type": "text/plain" } }, 400, "request_invalid"],
        ["/v1/sandboxes", post(JSON.stringify({ env: { A: "x".repeat(2 * 1024 * 1024) } })), 413, "request_too_large"],
        ["/v1/sandboxes", post('{"policy":{"rules":[{"pattern":"[","permission":"read"}]}}'), 422, "policy_invalid"],
        ["/v1/sandboxes", post('{"metadata":{"a\\u0000":"b"}}'), 400, "request_invalid"],
        ["/v1/sandboxes?metadata=%00", {}, 400, "request_invalid"],
        ["/v1/sandboxes?limit=0", {}, 400, "request_invalid"],
        ["/v1/sandboxes?cursor=x", {}, 400, "request_invalid"],
        ["/v1/sandboxes/%00", {}, 404, "sandbox_not_found"],
        ["/v1/none", {}, 404, "route_not_found"],
        ["/v1/sandboxes", { headers: { origin: "https://evil.example" } }, 403, "forbidden"],
      ];
      for (const [path, init, status, code] of cases) {
        const answer = await raw(path, init);
        expect({ path, status: answer.status, code: answer.body.error?.code }).toEqual({ path, status, code });
        expect(JSON.stringify(answer.body)).not.toMatch(/node_modules|\.ts:|\\n\s+at /);
      }
      expect((await raw("/v1/sandboxes", post('{"timeoutMs":"x"}'))).body.error?.message).toContain("body.timeoutMs");
      expect(await raw("/v1/openapi.json")).toMatchObject({ status: 200, body: { openapi: "3.1.0" } });
      expect((await raw("/readyz", { key: "" })).status).toBe(200);
    },
  );

  verifies("server/events-resume", "a follower goes on behind the last event it saw, over an end and a start of the server", async () => {
    const data = join(dir, "followed");
    const first = await startServerProcess(data);
    const client = new Corral({ url: first.url, key: first.key ?? "" });
    const seen: string[] = [];
    const kinds = ["sandbox-create"];
    const stop = new AbortController();
    const following = (async () => {
      for await (const { subjectId } of client.events.follow({ kinds, after: "0", signal: stop.signal })) seen.push(subjectId);
    })();
    const one = await client.create({});
    await expect.poll(() => seen).toEqual([one.id]);
    // Nothing holds the end up that would go on for ever.
    expect(await first.end("SIGTERM")).toBe(0);
    await using second = await startServerProcess(data, ["--port", new URL(first.url).port]);
    const two = await new Corral({ url: second.url, key: first.key ?? "" }).create({});
    await expect.poll(() => seen).toEqual([one.id, two.id]);
    stop.abort();
    expect(await codeOf(following)).toBe("canceled");
    const headers = { authorization: `Bearer ${first.key}`, accept: "text/event-stream", "last-event-id": "0" };
    const response = await fetch(`${second.url}/v1/events`, { headers });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const chunk = (await response.body?.getReader().read()) as { value: Uint8Array } | undefined;
    expect(text(chunk?.value ?? new Uint8Array())).toMatch(/^id: 0\n\n/);
  });

  verifies(
    "server/audit",
    "every call that may change something and every refusal is a row, which holds no secret and outlives an end",
    async () => {
      const data = join(dir, "audited");
      const first = await startServerProcess(data);
      const root = new Corral({ url: first.url, key: first.key ?? "" });
      const { id: tokenId, secret } = await root.tokens.issue({ ownerId: "cat", scope: "user", name: "cat" });
      const cat = new Corral({ url: first.url, key: secret });
      const sandbox = await cat.create({ env: { PASSWORD: "hush" } });
      await sandbox.exec({ command: "echo hush" });
      expect(await codeOf(cat.create({ codebaseDir: dir }))).toBe("forbidden");
      expect(await codeOf(cat.tokens.list({ ownerId: "admin" }))).toBe("forbidden");
      for (let count = 0; count < 3; count++) await fetch(`${first.url}/v1/sandboxes`);
      await sandbox.destroy();
      expect(await first.end("SIGTERM")).toBe(0);
      await using second = await startServerProcess(data);
      const again = new Corral({ url: second.url, key: secret });
      const { items } = await again.audit.list();
      expect(items.map(({ action, outcome, subjectId }) => [action, outcome, subjectId])).toEqual([
        ["sandbox-create", "ok", sandbox.id],
        ["sandbox-exec", "ok", sandbox.id],
        ["sandbox-create", "forbidden", ""],
        ["token-read", "forbidden", ""],
        ["sandbox-delete", "ok", sandbox.id],
      ]);
      for (const row of items) expect(row).toMatchObject({ ownerId: "cat", tokenId, requestId: expect.stringMatching(/^req/) as string });
      const all = await new Corral({ url: second.url, key: first.key ?? "" }).audit.list();
      expect(all.items.map(({ action, outcome }) => `${action} ${outcome}`)).toEqual(
        expect.arrayContaining(["token-create ok", "sandbox-read unauthorized"]),
      );
      expect(JSON.stringify(all)).not.toMatch(/hush|ck[a-z0-9]{40}/);
      const page = await again.audit.list({ limit: 2, subjectId: sandbox.id });
      expect([page.items.length, (await again.audit.list({ cursor: page.next ?? "", subjectId: sandbox.id })).items.length]).toEqual([
        2, 1,
      ]);
    },
  );

  verifies("server/one-owner", "a second server over the same data directory is refused", async () => {
    await expect(startServerProcess(join(dir, "data"))).rejects.toThrow(/data_locked/);
  });

  verifies("server/shared-store", "two servers over one PostgreSQL leave each other's sandboxes alone", async (context) => {
    const missing = postgresMissing();
    if (missing !== undefined) return context.skip(missing);
    await using database = await Postgres.start();
    await using one = await startServerProcess(join(dir, "one"), ["--store", database.url]);
    const first = new Corral({ url: one.url, key: one.key ?? "" });
    const sandbox = await first.create({});
    await using two = await startServerProcess(join(dir, "two"), ["--store", database.url]);
    const second = new Corral({ url: two.url, key: one.key ?? "" });
    expect(await second.sandbox(sandbox.id).info()).toMatchObject({ state: "running" });
    expect(await codeOf(second.sandbox(sandbox.id).exec({ command: "true" }))).toBe("sandbox_state");
    expect(await codeOf(second.sandbox(sandbox.id).destroy())).toBe("sandbox_state");
    expect((await sandbox.exec({ command: "true" })).exitCode).toBe(0);
    const { id, secret } = await first.tokens.issue({ ownerId: "admin", scope: "user", name: "shared" });
    const user = new Corral({ url: two.url, key: secret });
    await user.list();
    await first.tokens.revoke(id);
    await expect.poll(() => codeOf(user.list()), { interval: 50 }).toBe("unauthorized");
  });

  verifies(
    "server/restart",
    "a killed server loses nothing: its keys hold, the next one goes on with its sandboxes, and each ends at its time",
    async () => {
      const data = join(dir, "killed");
      const first = await startServerProcess(data);
      const client = new Corral({ url: first.url, key: first.key ?? "" });
      const sandbox = await client.create({ env: { WHO: "ann" } });
      const gone = await client.create({});
      await sandbox.exec({ command: "echo kept > file; setsid sleep 300 > /dev/null 2>&1 &" });
      const { endAt } = await sandbox.info();
      const short = await client.create({ timeoutMs: 1_000 });
      await gone.destroy();
      expect(await first.end("SIGKILL")).toBe("SIGKILL");
      await using second = await startServerProcess(data);
      expect(second.key).toBeNull();
      const again = new Corral({ url: second.url, key: first.key ?? "" });
      const same = again.sandbox(sandbox.id);
      expect(await same.info()).toMatchObject({ state: "running", endAt });
      const seen = await same.exec({ command: "cat file; echo $WHO; cat /proc/[0-9]*/comm | grep -c sleep" });
      expect(text(seen.stdout)).toBe("kept\nann\n1\n");
      expect(await codeOf(again.sandbox(gone.id).info())).toBe("sandbox_not_found");
      await expect.poll(() => codeOf(again.sandbox(short.id).info())).toBe("sandbox_not_found");
      await same.destroy();
      expect((await (await again.create({})).exec({ command: "true" })).exitCode).toBe(0);
      expect(await second.end("SIGTERM")).toBe(0);
      expect(remainsOf(data)).toEqual([]);
    },
  );

  verifies("server/restart-lost", "what the next server finds dead is told as failed, and what was written is kept", async () => {
    const data = join(dir, "lost");
    const first = await startServerProcess(data);
    const client = new Corral({ url: first.url, key: first.key ?? "" });
    const sandbox = await client.create({});
    await sandbox.exec({ command: "echo kept > file" });
    process.kill(spawnerOf(data), "SIGKILL");
    expect(await first.end("SIGKILL")).toBe("SIGKILL");
    await using second = await startServerProcess(data);
    const again = new Corral({ url: second.url, key: first.key ?? "" });
    expect(await again.sandbox(sandbox.id).info()).toMatchObject({ state: "failed" });
    expect(await codeOf(again.sandbox(sandbox.id).exec({ command: "true" }))).toBe("sandbox_lost");
    expect(readdirSync(join(data, "deltas"))).toEqual([sandbox.id]);
  });

  verifies("server/failed-start", "a start that fails ends nothing: the next one goes on with what the killed server left", async () => {
    const data = join(dir, "failing");
    const first = await startServerProcess(data);
    const client = new Corral({ url: first.url, key: first.key ?? "" });
    const sandbox = await client.create({});
    expect(await first.end("SIGKILL")).toBe("SIGKILL");
    // The port of the server that the whole file runs against.
    await expect(startServerProcess(data, ["--port", new URL(server.url).port])).rejects.toThrow(/port_unavailable/);
    await using second = await startServerProcess(data);
    const again = new Corral({ url: second.url, key: first.key ?? "" });
    expect((await again.sandbox(sandbox.id).exec({ command: "true" })).exitCode).toBe(0);
  });
});
