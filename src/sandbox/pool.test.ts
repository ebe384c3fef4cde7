// Sandboxes that are started ahead, over a real runtime: what they are when somebody has them, and that they are had once.

import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { WarmPool } from "../api/corral.ts";
import type { CreateRequest, Sandbox } from "../api/sandbox.ts";
import { type HostCorral, openLocalCorral } from "./corral.ts";

const SOON = { timeout: 15_000, interval: 10 };
const KIND = "host";
const MAX = 3;

let dir = "";
let code = "";
let corral: HostCorral;
let pool: WarmPool;

const data = (): string => join(dir, "data");
const open = (perTemplate = 1): Promise<HostCorral> =>
  openLocalCorral({
    dataDir: data(),
    guestFile: guestProgram(),
    env: process.env,
    uid: process.getuid?.() ?? 0,
    pool: { perTemplate, max: MAX, idleMs: 600_000 },
  });

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "corral-pool-"));
  code = join(dir, "code");
  mkdirSync(code);
  writeFileSync(join(code, "a.txt"), "base\n");
  writeFileSync(join(code, ".env"), "secret\n");
  corral = await open();
  if (corral.pool === undefined) throw new Error("it was opened with a pool");
  ({ pool } = corral);
});
afterAll(async () => {
  await corral[Symbol.asyncDispose]();
  removeTree(dir);
});

/** Waits until one is there, and takes it. */
async function taken(): Promise<string> {
  pool.want(KIND, {}, false);
  await expect.poll(() => pool.figures().ready, SOON).toBeGreaterThan(0);
  const id = pool.take(KIND);
  if (id === undefined) throw new Error("none waits");
  return id;
}

function create(more: Partial<CreateRequest> = {}): Promise<Sandbox> {
  return corral.create({
    codebaseDir: code,
    policy: {
      rules: [
        { pattern: "**", permission: "write" },
        { pattern: ".env", permission: "none" },
      ],
    },
    ...more,
  });
}

async function said(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr } = await sandbox.exec({ command });
  return `${Buffer.from(stdout).toString()}${Buffer.from(stderr).toString()}`;
}

/** What a command can read of its walls, without what differs between any two sandboxes. */
const WALLS = [
  "cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/ [0-9]+:[0-9]+ / /; s/(lowerdir|upperdir|workdir)[^ ]*//g' | sort",
  "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status; cat /proc/self/uid_map /proc/self/cgroup; hostname; id; ulimit -a",
  "ls -la / /workspace | awk '{print $1, $3, $4, $NF}'; env | sort; ls /proc/self/fd; cat /proc/net/dev | wc -l",
].join("; ");

verifies(
  "sandbox/pool-walls",
  "one that was started ahead has the walls, the codebase, the policy and the environment of one that was not",
  async () => {
    const env = { WHO: "ann" };
    const cold = await create({ env });
    const warm = await create({ id: await taken(), env });
    expect([cold.info().source, warm.info().source]).toEqual([undefined, "pool"]);
    expect(await said(warm, WALLS)).toBe(await said(cold, WALLS));
    expect(await said(warm, "cat a.txt; echo $WHO; ls -A; echo new > a.txt; echo x > b; cat .env")).toMatch(
      /^base\nann\na\.txt\ncat: \.env: No such/,
    );
    const { changes } = await corral.deltas.changes(warm.id);
    expect(changes.map(({ path }) => path)).toEqual(["/a.txt", "/b"]);
    // An environment is its owner's: PID 1, which was there before, has none of it.
    expect(await said(warm, "cat /proc/1/environ | tr '\\0' '\\n' | grep -c WHO")).toMatch(/^0|Permission denied/);
    await Promise.all([cold, warm].map((sandbox) => sandbox.destroy()));
  },
);

verifies("sandbox/pool-once", "each is given once: neither one that was used nor one that was given back comes again", async () => {
  const first = await taken();
  const sandbox = await create({ id: first });
  await sandbox.destroy();
  const second = await taken();
  pool.drop(second);
  pool.drop(second);
  const third = await taken();
  expect(new Set([first, second, third]).size).toBe(3);
  pool.drop(third);
  // Given back is ended.
  await expect.poll(() => readdirSync(join(data(), "journal")).filter((name) => name.includes(second)), SOON).toEqual([]);
});

verifies("sandbox/pool-misfit", "one that does not fit what is asked is ended, and another is made under its id", async () => {
  const limits = { pids: 77 };
  const id = await taken();
  const sandbox = await create({ id, limits });
  expect([sandbox.id, sandbox.info().source, await said(sandbox, "cat a.txt")]).toEqual([id, undefined, "base\n"]);
  await sandbox.destroy();
  const gone = await taken();
  await expect(create({ id: gone, codebaseDir: join(dir, "none") })).rejects.toMatchObject({ code: "codebase_not_found" });
  await expect.poll(() => readdirSync(join(data(), "journal")).filter((name) => name.includes(gone)), SOON).toEqual([]);
});

verifies(
  "sandbox/pool-dead",
  "one that died is not given, and another takes its place; one that dies when it was given is made anew",
  async () => {
    await pool.forget(KIND);
    pool.want(KIND, {}, false);
    await expect.poll(() => pool.figures().ready, SOON).toBe(1);
    const { discarded } = pool.figures();
    const [before] = await processes();
    process.kill(before?.pid ?? 0, "SIGKILL");
    await expect.poll(() => pool.figures(), SOON).toMatchObject({ ready: 1, discarded: discarded + 1 });
    const id = await taken();
    expect(id).not.toBe(before?.id);
    process.kill((await processes()).find((one) => one.id === id)?.pid ?? 0, "SIGKILL");
    const sandbox = await create({ id });
    expect([sandbox.id, await said(sandbox, "cat a.txt")]).toEqual([id, "base\n"]);
    await sandbox.destroy();
  },
);

verifies("sandbox/pool-bounds", "misses make it grow to its bound and no further, and nobody waits for one", async () => {
  for (let i = 0; i < 8; i++) pool.want(KIND, {}, false);
  pool.want("other", { limits: { pids: 50 } }, false);
  await expect.poll(() => pool.figures().ready, SOON).toBe(MAX);
  const ids = Array.from({ length: MAX + 1 }, () => pool.take(KIND));
  expect(ids.filter((id) => id !== undefined)).toHaveLength(MAX);
  expect(ids.at(-1)).toBeUndefined();
  for (const id of ids) pool.drop(id ?? "");
  await pool.forget("other");
  await pool.forget(KIND);
  expect(pool.figures().ready).toBe(0);
});

verifies("sandbox/pool-end", "an end leaves nothing of what waited, and with none to start nothing is started", async () => {
  pool.want(KIND, {}, false);
  await expect.poll(() => pool.figures().ready, SOON).toBe(1);
  const id = pool.take(KIND);
  pool.want(KIND, {}, false);
  const seen = new Set(journals());
  await corral[Symbol.asyncDispose]();
  expect(id).toBeDefined();
  expect(readdirSync(join(data(), "journal"))).toEqual([]);
  corral = await open(0);
  expect((await corral.census()).filter(({ sandboxId }) => sandboxId !== undefined && seen.has(sandboxId))).toEqual([]);
  corral.pool?.want(KIND, {}, false);
  expect(corral.pool?.figures()).toMatchObject({ ready: 0, misses: 0 });
});

function journals(): readonly string[] {
  return readdirSync(join(data(), "journal")).map((name) => name.split(".")[0] ?? "");
}

async function processes(): Promise<readonly { readonly id: string | undefined; readonly pid: number }[]> {
  const found = (await corral.census()).filter(({ kind, sandboxId }) => kind === "process" && journals().includes(sandboxId ?? ""));
  return found.map(({ name, sandboxId }) => ({ id: sandboxId, pid: Number(/\d+/.exec(name)?.[0]) }));
}
