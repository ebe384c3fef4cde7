// What can be seen of a server: its numbers as Prometheus reads them, its log, and where the time of a request went.

import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { errorCode } from "../../src/api/errors.ts";
import { ioOf } from "../../src/runtime/native/cgroup-usage.ts";
import { causeText } from "../../src/server/log.ts";
import { diskSectors } from "../../src/server/machine-metrics.ts";
import { type MetricFamily, parseExposition } from "../fixtures/exposition.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

async function scrape({ url, key }: ServerHere): Promise<{ readonly text: string; readonly families: ReadonlyMap<string, MetricFamily> }> {
  const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${key}` } });
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  return { text, families: parseExposition(text) };
}

function value(
  families: ReadonlyMap<string, MetricFamily>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const family = families.get(name.replace(/_(count|sum|bucket)$/, "")) ?? families.get(name);
  return family?.samples.find(
    (sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
  )?.value;
}

describe("numbers", () => {
  verifies("server/metrics", "what the server did and holds stands in its numbers, in Prometheus' own format", async () => {
    await using server = await startServerHere();
    const before = await scrape(server);
    expect(value(before.families, "corral_sandboxes", { state: "running" })).toBeUndefined();
    const one = await server.admin.create({});
    const two = await server.admin.create({});
    await one.exec({ command: "head -c 50000000 /dev/zero | tail -c 1" });
    expect(await server.admin.create({ policy: "none-such" }).catch(errorCode)).toBe("preset_unknown");
    expect(await server.admin.create({ limits: { memoryBytes: 1 } }).catch(errorCode)).toBe("request_invalid");
    const { families } = await scrape(server);
    const { runtime = "" } = (await one.info()).info ?? {};
    expect(value(families, "corral_sandboxes", { state: "running", runtime })).toBe(2);
    expect(value(families, "corral_view_mounts", { runtime })).toBe(2);
    expect(value(families, "corral_sandbox_starts_total", { source: "cold", runtime, outcome: "ok" })).toBe(2);
    expect(value(families, "corral_sandbox_starts_total", { runtime: "none", outcome: "refused" })).toBe(1);
    expect(value(families, "corral_operations_total", { operation: "create", outcome: "ok" })).toBe(2);
    expect(value(families, "corral_operations_total", { operation: "create", outcome: "refused" })).toBe(2);
    expect(value(families, "corral_operation_duration_seconds_count", { operation: "exec", outcome: "ok" })).toBe(1);
    expect(value(families, "corral_operation_stage_seconds_count", { operation: "create", stage: "contain" })).toBe(2);
    expect(value(families, "corral_errors_total", { code: "preset_unknown" })).toBe(1);
    expect(value(families, "corral_http_requests_total", { route: "/v1/sandboxes", method: "POST", status: "2xx" })).toBe(2);
    for (const name of ["node_memory_ratio", "node_cpu_ratio", "node_disk_free_ratio"])
      expect(value(families, `corral_${name}`), name).toBeGreaterThan(0);
    expect(value(families, "corral_node_cpu_seconds_total", { mode: "user" })).toBeGreaterThan(0);
    expect(value(families, "corral_server_io_bytes_total", { direction: "write" })).toBeGreaterThanOrEqual(0);
    expect(value(families, "process_resident_memory_bytes")).toBeGreaterThan(1_000_000);
    await one.destroy();
    await two.destroy();
    expect(value((await scrape(server)).families, "corral_sandboxes", { state: "running" })).toBeUndefined();
  });

  verifies(
    "server/metrics-pool",
    "how often one that was started ahead served stands in the numbers, and such a one is as any other",
    async () => {
      await using server = await startServerHere({ "pool.perTemplate": "1" });
      const numbers = async (): Promise<readonly (number | undefined)[]> => {
        const { families } = await scrape(server);
        const claims = ["hit", "miss"].map((outcome) => value(families, "corral_pool_claims_total", { outcome }));
        return [
          value(families, "corral_pool_ready"),
          ...claims,
          value(families, "corral_sandbox_starts_total", { source: "pool", outcome: "ok" }),
        ];
      };
      const cold = await server.admin.create({});
      await expect.poll(numbers).toEqual([1, 0, 1, undefined]);
      const warm = await server.admin.create({ env: { WHO: "ann" }, network: "none" });
      expect([(await cold.info()).info?.source, (await warm.info()).info?.source]).toEqual([undefined, "pool"]);
      expect(Buffer.from((await warm.exec({ command: "echo $WHO; pwd; touch here && ls" })).stdout).toString()).toBe(
        "ann\n/workspace\nhere\n",
      );
      // Of limits of its own none can have been started.
      await server.admin.create({ limits: { pids: 60 } });
      await expect.poll(numbers).toEqual([1, 1, 1, 1]);
      expect(value((await scrape(server)).families, "corral_view_mounts", { runtime: "native" })).toBe(3);
    },
  );

  verifies(
    "server/metrics-sandboxes",
    "memory and CPU time of the sandboxes are those of their cgroups, ended ones included",
    async (context) => {
      await using server = await startServerHere();
      const sandbox = await server.admin.create({});
      if ((await sandbox.info()).info?.weakenings.includes("memory-not-limited") === true)
        return context.skip("this machine gives no cgroup with a memory controller");
      await sandbox.exec({ command: "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done" });
      const { families } = await scrape(server);
      expect(value(families, "corral_sandbox_memory_bytes")).toBeGreaterThan(0);
      const cpu = value(families, "corral_sandbox_cpu_seconds_total") ?? Number.NaN;
      expect(cpu).toBeGreaterThan(0.05);
      await sandbox.destroy();
      expect(value((await scrape(server)).families, "corral_sandbox_cpu_seconds_total")).toBeGreaterThanOrEqual(cpu);
    },
  );

  verifies("server/metrics-labels", "no id, owner or path is a label, and use makes no new series", async () => {
    await using server = await startServerHere();
    const use = async (owner: string): Promise<void> => {
      const sandbox = await server.admin.create({ metadata: { owner } });
      await sandbox.exec({ command: "true" });
      await fetch(`${server.url}/v1/sandboxes/${sandbox.id}x?owner=${owner}`, { headers: { authorization: `Bearer ${server.key}` } });
      await fetch(`${server.url}/${owner}`);
      await fetch(`${server.url}/v1/sandboxes/${owner}`, { headers: { authorization: `Bearer ${await server.keyOf(owner)}` } });
      await sandbox.destroy();
    };
    const series = (text: string): number => text.split("\n").filter((line) => line.startsWith("corral_")).length;
    await use("first");
    const first = await scrape(server);
    for (const owner of ["ann", "bob", "carl"]) await use(owner);
    const last = await scrape(server);
    // The first scrape is itself a request that the second one counts.
    const own = last.text.split("\n").filter((line) => line.startsWith("corral_") && line.includes('route="/metrics"')).length;
    expect(series(last.text) - own).toBe(series(first.text));
    expect(last.text).not.toMatch(/sb[a-z0-9]{20}|ck[a-z0-9]{40}|ann|carl|\/tmp/);
  });

  verifies("server/metrics-key", "the numbers take a key of scope admin, or a port of their own", async () => {
    await using server = await startServerHere();
    const status = async (key: string): Promise<number> =>
      (await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${key}` } })).status;
    expect([await status(""), await status(await server.keyOf("ann")), await status(server.key)]).toEqual([401, 403, 200]);
    await using other = await startServerHere({ "metrics.port": "0" });
    expect(parseExposition(await (await fetch(`${other.metricsUrl}/metrics`)).text()).has("corral_http_requests_total")).toBe(true);
    expect((await fetch(`${other.metricsUrl}/v1/sandboxes`)).status).toBe(404);
  });

  it("are accepted by Prometheus' own checker", async (context) => {
    if (spawnSync("promtool", ["--version"]).error !== undefined)
      return context.skip("promtool is not installed (apt-get install prometheus)");
    await using server = await startServerHere();
    await (await server.admin.create({})).destroy();
    const { text } = await scrape(server);
    // Node.js' own families are named by prom-client.
    const ours = text.split("\n").filter((line) => /^(# (HELP|TYPE) )?corral_/.test(line));
    expect(execFileSync("promtool", ["check", "metrics"], { input: `${ours.join("\n")}\n`, encoding: "utf8" })).toBe("");
  });

  it("of a machine are read as the kernel writes them", () => {
    expect(ioOf("8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=2 rios=0 wios=0")).toEqual({
      readBytes: 11,
      writtenBytes: 22,
    });
    expect(ioOf("")).toEqual({ readBytes: 0, writtenBytes: 0 });
    const disks = [
      "   8       0 sda 1 0 100 0 1 0 200 0 0 0 0",
      "   8       1 sda1 1 0 50 0 1 0 60 0 0 0 0",
      " 259 0 nvme0n1 1 0 7 0 1 0 8 0 0 0 0",
    ];
    expect(diskSectors(disks.join("\n"))).toEqual({ read: 107, written: 208 });
  });

  it("would not pass the strict reader if they were wrong", () => {
    const wrong = [
      "a 1\n",
      "# HELP a b\n# TYPE a counter\na 1\n",
      "# HELP a_total b\n# TYPE a_total counter\na_total 1\na_total 2\n",
      '# HELP a b\n# TYPE a gauge\na{x="1" 1\n',
      '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
      "# HELP a b\n# TYPE a gauge\na 1",
    ];
    for (const text of wrong) expect(() => parseExposition(text), text).toThrow();
  });
});

describe("the log", () => {
  verifies(
    "server/log",
    "each request is a line of JSON with its id, owner and sandbox; no key, environment, command or query is in it",
    async () => {
      await using server = await startServerHere({ "log.level": "trace" });
      const secret = "hunter2-secret";
      const sandbox = await server.admin.create({ env: { PASSWORD: secret }, metadata: { note: secret } });
      await sandbox.exec({ command: `echo ${secret}`, env: { OTHER: secret } });
      const refused = await fetch(`${server.url}/v1/sandboxes?cursor=${secret}`, { headers: { authorization: `Bearer ${server.key}` } });
      await fetch(`${server.url}/v1/${secret}`, { headers: { authorization: "Bearer ckwrong" } });
      await expect.poll(() => server.lines.length).toBeGreaterThanOrEqual(5);
      const lines = server.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(lines).toContainEqual(
        expect.objectContaining({
          level: "info",
          msg: "request",
          method: "POST",
          route: "/v1/sandboxes",
          status: 201,
          ownerId: "admin",
          sandboxId: sandbox.id,
        }),
      );
      expect(lines).toContainEqual(
        expect.objectContaining({ requestId: refused.headers.get("x-request-id"), status: 400, code: "request_invalid" }),
      );
      for (const { time } of lines) expect(new Date(String(time)).toISOString()).toBe(time);
      expect(server.lines.join("")).not.toMatch(/hunter2|ckwrong/);
      expect(server.lines.join("")).not.toContain(server.key);
      await sandbox.destroy();
    },
  );

  it("holds no character that acts on a terminal", () => {
    const error = new Error("\u001B[31mred\u202E\u0007");
    expect(causeText(error)).toContain("\\u{1b}[31mred\\u{202e}\\u{7}");
  });
});

describe("the time of a request", () => {
  verifies("server/server-timing", "every answer says where its time went, and the stages add up to the total", async () => {
    await using server = await startServerHere();
    const headers = { authorization: `Bearer ${server.key}`, "content-type": "application/json" };
    const create = await fetch(`${server.url}/v1/sandboxes`, { method: "POST", headers, body: "{}" });
    const { id } = (await create.json()) as { id: string };
    const exec = await fetch(`${server.url}/v1/sandboxes/${id}/exec`, { method: "POST", headers, body: '{"command":"true"}' });
    await exec.arrayBuffer();
    const list = await fetch(`${server.url}/v1/sandboxes`, { headers });
    const none = await fetch(`${server.url}/none`);
    const wanted: readonly (readonly [Response, readonly string[]])[] = [
      [create, ["auth", "probe", "journal", "template", "view", "contain", "rest"]],
      [exec, ["auth", "start", "rest"]],
      [list, ["auth", "rest"]],
      [none, ["rest"]],
    ];
    for (const [response, stages] of wanted) {
      const timing = new Map(
        (response.headers.get("server-timing") ?? "").split(", ").map((part) => part.split(";dur=") as [string, string]),
      );
      const sum = stages.reduce((total, stage) => total + Number(timing.get(stage)), 0);
      const total = Number(timing.get("total"));
      expect(Math.abs(sum - total), response.headers.get("server-timing") ?? "").toBeLessThanOrEqual(Math.max(1, total * 0.05));
    }
    await server.admin.sandbox(id).destroy();
  });
});
