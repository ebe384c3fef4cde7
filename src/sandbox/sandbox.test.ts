// Sandboxes of this process, for real: commands, limits, ends. What a person sees of it is test/e2e's.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { Corral } from "../api/corral.ts";
import { errorCode } from "../api/errors.ts";
import type { CreateRequest, ExecRequest, ExecResult, Sandbox } from "../api/sandbox.ts";
import { openLocalCorral } from "./corral.ts";

const GUEST = join(import.meta.dirname, "..", "..", "guest", "build", "corral-guest");
const MIB = 1024 * 1024;

let dir = "";
let code = "";
let corral: Corral;
/** Shared by tests that change nothing but what they name. */
let sandbox: Sandbox;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "corral-sandbox-"));
  code = join(dir, "code");
  mkdirSync(join(code, "src"), { recursive: true });
  writeFileSync(join(code, "src", "a.txt"), "one\n");
  writeFileSync(join(code, "plain.txt"), "no program");
  corral = await openLocalCorral({ dataDir: join(dir, "data"), guestFile: GUEST, env: process.env, uid: process.getuid?.() ?? 0 });
  sandbox = await create();
});
afterAll(async () => {
  await corral[Symbol.asyncDispose]();
  removeTree(dir);
});

async function create(more: Partial<CreateRequest> = {}): Promise<Sandbox> {
  return await corral.create({ codebaseDir: code, policy: { rules: [{ pattern: "**", permission: "write" }] }, ...more });
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

async function run(command: ExecRequest["command"], more: Partial<ExecRequest> = {}, where: Sandbox = sandbox): Promise<ExecResult> {
  return await where.exec({ command, ...more });
}

async function codeOf(act: Promise<unknown>): Promise<string | undefined> {
  return await act.then(
    () => undefined,
    (error: unknown) => errorCode(error),
  );
}

/** PID 1 of the sandbox that this process made last: of our descendants the newest guest. */
function newestGuest(): number {
  const children = (pid: number): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ").filter(Boolean).map(Number);
  const all = (pid: number): number[] => children(pid).flatMap((child) => [child, ...all(child)]);
  const guests = all(process.pid).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith("corral-guest\0init"));
  return Math.max(...guests);
}

verifies("sandbox/exec-result", "a program failing is a result: its code or signal, 126, 127, with its output", async () => {
  expect(await run("echo out; echo err >&2; exit 3")).toMatchObject({
    exitCode: 3,
    signal: null,
    timedOut: false,
    limitHit: null,
    truncated: false,
  });
  const both = await run("printf out; printf err >&2");
  expect([text(both.stdout), text(both.stderr)]).toEqual(["out", "err"]);
  expect(await run("kill -SEGV $$")).toMatchObject({ exitCode: 139, signal: "SIGSEGV" });
  expect(await run(["no-such"])).toMatchObject({ exitCode: 127 });
  expect(await run(["./plain.txt"])).toMatchObject({ exitCode: 126 });
  expect(await codeOf(run("true", { cwd: "/workspace/missing" }))).toBe("exec_failed");
});

it("argv is passed as it stands, a line goes to the shell, cwd and env are the command's", async () => {
  const odd = ["a b", "", "$HOME", "*", "é\n", "--"];
  const result = await run(["sh", "-c", 'for a in "$@"; do printf "[%s]" "$a"; done', "sh", ...odd]);
  expect(text(result.stdout)).toBe(odd.map((word) => `[${word}]`).join(""));
  expect(text((await run('echo "$X:$PWD"', { env: { X: "1" }, cwd: "/workspace/src" })).stdout)).toBe("1:/workspace/src\n");
});

it("stdin is what was given, empty when nothing was", async () => {
  expect(text((await run("cat", { stdin: Buffer.from("bytes") })).stdout)).toBe("bytes");
  expect(text((await run("cat; echo end")).stdout)).toBe("end\n");
  async function* pieces() {
    for (let i = 0; i < 300; i++) yield Buffer.alloc(10_000, 65 + (i % 26));
  }
  expect(text((await run("wc -c", { stdin: pieces() })).stdout).trim()).toBe("3000000");
  // A program that reads nothing is no error of its stdin.
  expect((await run("true", { stdin: Buffer.alloc(5 * MIB) })).exitCode).toBe(0);
});

verifies("sandbox/timeout", "a timeout ends the whole tree and keeps the output so far", async () => {
  const result = await run("echo early; trap '' INT TERM; (setsid sleep 53.1) & while :; do sleep 0.1; done", { timeoutMs: 200 });
  expect(result).toMatchObject({ exitCode: 124, timedOut: true, signal: "SIGKILL" });
  expect(text(result.stdout)).toBe("early\n");
  expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain("sleep 53.1");
  expect((await run("true")).exitCode).toBe(0);
});

it("a command that writes nothing for the idle time is ended, one that writes is not", async () => {
  expect(await run("echo once; sleep 20", { idleTimeoutMs: 300 })).toMatchObject({ exitCode: 124, timedOut: true });
  expect(await run("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done", { idleTimeoutMs: 2_000 })).toMatchObject({
    exitCode: 0,
    timedOut: false,
  });
});

it("an abort ends the tree by the ladder; one that came before is told and starts nothing", async () => {
  const abort = new AbortController();
  // No shell: while it starts it holds a SIGINT back, and loses it to the program it becomes.
  const running = await sandbox.start({ command: ["sleep", "53.2"], signal: abort.signal });
  abort.abort();
  expect(await running.result).toMatchObject({ signal: "SIGINT", exitCode: 130 });
  expect(await codeOf(run("touch src/never", { signal: abort.signal }))).toBe("canceled");
});

verifies("sandbox/output-cap", "output past its cap is dropped and told, and the program goes on", async () => {
  const result = await run("head -c 3000000 /dev/zero; echo done >&2; exit 7", { outputBytes: 1000 });
  expect(result).toMatchObject({ exitCode: 7, truncated: true, limitHit: "output" });
  expect(result.stdout.length + result.stderr.length).toBe(1000);
  const byDefault = await run("head -c 20000000 /dev/zero");
  expect([byDefault.stdout.length, byDefault.truncated]).toEqual([16 * MIB, true]);
});

verifies("sandbox/slow-sink", "a sink that is slow slows the program; nothing is lost, and its chunks come one at a time", async () => {
  let bytes = 0;
  let active = 0;
  let most = 0;
  const result = await run("head -c 8000000 /dev/zero", {
    onStdout: async (chunk) => {
      active += 1;
      most = Math.max(most, active);
      await sleep(1);
      bytes += chunk.length;
      active -= 1;
    },
  });
  expect([result.exitCode, bytes, most, result.stdout.length]).toEqual([0, 8_000_000, 1, 0]);
});

it("a sink that throws ends the command, and its error is the caller's", async () => {
  const broken = run("yes", {
    onStdout: () => {
      throw new Error("no more");
    },
  });
  await expect(broken).rejects.toThrow("no more");
  expect((await run("true")).exitCode).toBe(0);
});

verifies(
  "sandbox/limit-memory",
  "a command that runs out of memory is told by name, and the sandbox takes the next one",
  async (context) => {
    if (sandbox.info().weakenings.includes("memory-not-limited"))
      context.skip("this user has no memory cgroup; the sandbox's info says so");
    await using small = await create({ limits: { memoryBytes: 64 * MIB } });
    expect(await run("head -c 300000000 /dev/zero | tail -c 299999999 | wc -c", {}, small)).toMatchObject({ limitHit: "memory" });
    expect(await run("true", {}, small)).toMatchObject({ exitCode: 0, limitHit: null });
  },
);

verifies("sandbox/limit-pids", "a fork bomb is told by name and gone with its command", async (context) => {
  if (sandbox.info().weakenings.includes("pids-by-rlimit")) context.skip("this user has no pids cgroup; the sandbox's info says so");
  await using small = await create({ limits: { pids: 32 } });
  expect(await run("for i in $(seq 1 100); do sleep 53.3 & done; wait", { timeoutMs: 3_000 }, small)).toMatchObject({ limitHit: "pids" });
  expect(await run("echo fine", {}, small)).toMatchObject({ exitCode: 0 });
});

verifies("sandbox/limit-disk", "a command that fills its delta is killed and told disk, or inodes; clearing up is allowed", async () => {
  await using small = await create({ limits: { diskBytes: 4 * MIB, inodes: 200 } });
  expect(await run("while :; do head -c 1000000 /dev/zero >> big; sleep 0.02; done", { timeoutMs: 20_000 }, small)).toMatchObject({
    limitHit: "disk",
    signal: "SIGKILL",
  });
  expect(await run("rm big; sleep 2", {}, small)).toMatchObject({ exitCode: 0, limitHit: null });
  expect(await run("i=0; while :; do : > f$i; i=$((i+1)); done", { timeoutMs: 20_000 }, small)).toMatchObject({ limitHit: "inodes" });
});

it("many commands at once each get their own output", async () => {
  const results = await Promise.all(Array.from({ length: 50 }, (_, index) => run(`echo ${index}`)));
  expect(results.map(({ stdout }) => text(stdout))).toEqual(Array.from({ length: 50 }, (_, index) => `${index}\n`));
});

verifies("sandbox/destroy", "destroy is idempotent, in any state, and leaves no journal, socket, cgroup or delta", async () => {
  const one = await create();
  const running = await one.start({ command: "sleep 53.4" });
  const lost = codeOf(running.result);
  await Promise.all([one.destroy(), one.destroy()]);
  await one.destroy();
  expect(await lost).toBe("sandbox_lost");
  expect(one.info().state).toBe("destroyed");
  expect(await codeOf(one.exec({ command: "true" }))).toBe("sandbox_not_found");
  expect((await corral.census()).filter(({ sandboxId, name }) => sandboxId === one.id || name.includes(one.id))).toEqual([]);
});

it("a sandbox that dies is told as lost to its command and to every later call, and its delta is kept", async () => {
  const one = await create();
  await run("echo precious > src/kept", {}, one);
  const running = await one.start({ command: "sleep 53.5" });
  const result = codeOf(running.result);
  process.kill(newestGuest(), "SIGKILL");
  expect(await result).toBe("sandbox_lost");
  expect([one.info().state, await codeOf(one.exec({ command: "true" }))]).toEqual(["failed", "sandbox_lost"]);
  await one.destroy();
  expect(await corral.deltas.list()).toMatchObject([{ sandboxId: one.id, cutOff: true }]);
  expect((await corral.deltas.changes(one.id)).changes).toEqual([{ path: "/src/kept", kind: "add", type: "file" }]);
  await corral.deltas.discard(one.id);
});

it("creates and destroys at once, in any order, leave nothing", async () => {
  await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const one = await create();
      const started = one.exec({ command: "sleep 0.05" }).catch(() => undefined);
      if (index % 2 === 0) await started;
      await one.destroy();
    }),
  );
  const left = (await corral.census()).filter(
    ({ kind, sandboxId }) => (kind === "journal" || kind === "delta" || kind === "socket") && sandboxId !== sandbox.id,
  );
  expect(left).toEqual([]);
});

verifies("sandbox/failed-create", "a create that fails leaves nothing behind", async () => {
  expect(await codeOf(create({ codebaseDir: join(dir, "missing") }))).toBe("codebase_not_found");
  expect(await codeOf(create({ codebaseDir: join(code, "plain.txt") }))).toBe("codebase_unreadable");
  expect(await codeOf(create({ codebaseDir: dir }))).toBe("data_unsafe");
  expect(await codeOf(create({ policy: { rules: [{ pattern: "[", permission: "read" }] } }))).toBe("policy_invalid");
  // With the engine named, nothing reads the policy before the journal is written.
  expect(await codeOf(create({ engine: "kernel", policy: { rules: [{ pattern: "[", permission: "read" }] } }))).toBe("policy_invalid");
  expect(await codeOf(create({ limits: { memoryBytes: 1 } }))).toBe("request_invalid");
  expect(await codeOf(create({ policy: { rules: [], live: true } }))).toBe("engine_unavailable");
  expect(readdirSync(join(dir, "data", "journal")).filter((name) => !name.startsWith(sandbox.id))).toEqual([]);
  expect(readdirSync(join(dir, "data", "deltas")).filter((name) => !name.startsWith(sandbox.id))).toEqual([]);
});

it("an ephemeral delta goes with its sandbox, a kept one stays until it is discarded", async () => {
  const ephemeral = await create();
  await run("echo x > src/new", {}, ephemeral);
  expect((await corral.deltas.changes(ephemeral.id)).changes.map(({ path }) => path)).toEqual(["/src/new"]);
  await ephemeral.destroy();
  expect(existsSync(join(dir, "data", "deltas", ephemeral.id))).toBe(false);
  const kept = await create({ delta: "keep" });
  await run("echo x > src/new", {}, kept);
  expect(await codeOf(corral.deltas.discard(kept.id))).toBe("sandbox_state");
  await kept.destroy();
  expect(await corral.deltas.list()).toMatchObject([{ sandboxId: kept.id, cutOff: false }]);
  await corral.deltas.discard(kept.id);
  expect(await corral.deltas.list()).toEqual([]);
});

it("info names runtime, engine, reasons, weaker walls and stage timings", () => {
  const { runtime, engine, reasons, weakenings, timings, state } = sandbox.info();
  expect([runtime, engine, state]).toEqual(["native", "kernel", "running"]);
  expect(reasons.join()).toContain("native");
  expect(weakenings).toContain("quota-watched");
  expect(Object.keys(timings)).toEqual(expect.arrayContaining(["probeMs", "journalMs", "viewMs", "containMs"]));
});

it("a damaged record of one delta keeps nobody from working, is told at each start, and can be discarded", async () => {
  const id = `sb${"d".repeat(20)}`;
  mkdirSync(join(dir, "data", "deltas", id));
  writeFileSync(join(dir, "data", "deltas", id, "delta.json"), "");
  await using second = await openLocalCorral({
    dataDir: join(dir, "data"),
    guestFile: GUEST,
    env: process.env,
    uid: process.getuid?.() ?? 0,
  });
  expect(second.reaped.failures).toEqual([expect.stringContaining(id)]);
  await using made = await second.create({ codebaseDir: code, policy: { rules: [] } });
  expect((await made.exec({ command: "true" })).exitCode).toBe(0);
  await second.deltas.discard(id);
  expect(existsSync(join(dir, "data", "deltas", id))).toBe(false);
});
