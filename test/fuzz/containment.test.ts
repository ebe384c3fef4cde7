// Containment itself: random programs of the system calls that our own table allows, inside each runtime, and what must hold outside of it.
// Nothing is known of what such a program does. Invariant: flags, a bystander and a listener outside notice nothing, the sandbox still
// answers afterwards, and once it is destroyed nothing of it is left in the kernel.

import { strict as assert } from "node:assert";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect } from "vitest";
import type { RuntimeName, Sandbox } from "../../src/api/sandbox.ts";
import { type OpenBed, openBed } from "../../src/attack/bed.ts";
import { processesIn } from "../../src/attack/memory.ts";
import { filterArch, rowsByNumber } from "../../src/runtime/seccomp/filter.ts";
import { BWRAP_MISSING } from "../bwrap.ts";
import { ROOT } from "../tools/tree.ts";
import { verifies } from "../verifies.ts";
import { fuzzSeconds, fuzzSeed, tellFigures } from "./budget.ts";

const SECONDS = 2;
const PROGRAMS = 20;
const CALLS = 300;
/** Batches in one sandbox: what one leaves is what the next begins with. */
const BATCHES = 6;
const LIMITS = { memoryBytes: 256 * 1024 ** 2, pids: 64, openFiles: 128, diskBytes: 64 * 1024 ** 2, inodes: 20_000 } as const;
const SETTINGS = ["core_pattern", "hostname", "overflowuid", "randomize_va_space"].map((name) => `/proc/sys/kernel/${name}`);

interface Outside extends AsyncDisposable {
  /** Throws with what is not as it was. */
  demandAsBefore(): void;
}

/** What an escape would meet first. */
async function watchOutside(bed: OpenBed): Promise<Outside> {
  const flags = bed.flags();
  const settings = (): string => SETTINGS.map((path) => readFileSync(path, "utf8")).join("") + hostname() + statSync("/tmp").mode;
  const before = settings();
  const clocks = (): number => Date.now() - performance.now();
  const clock = clocks();
  const bystander = spawn("sleep", ["100000"], { stdio: "ignore" });
  let visitors = 0;
  const servers = ["127.0.0.1", "\0corral-fuzz-containment"].map((place) => {
    const server = createServer((socket) => {
      visitors += 1;
      socket.destroy();
    });
    return place.startsWith("\0") ? server.listen(place) : server.listen(0, place);
  });
  await Promise.all(servers.map((server) => once(server, "listening")));
  return {
    demandAsBefore() {
      assert.equal(bed.flags(), flags, "a flag changed");
      assert.equal(settings(), before, "a setting of the machine changed");
      assert.ok(Math.abs(clocks() - clock) < 2_000, "the clock of the machine was set");
      assert.equal(bystander.exitCode ?? bystander.signalCode, null, "a process outside was signalled");
      assert.equal(visitors, 0, "a listener outside was reached");
    },
    async [Symbol.asyncDispose]() {
      for (const server of servers) server.close();
      bystander.kill("SIGKILL");
      await once(bystander, "exit");
    },
  };
}

function project(dir: string): string {
  mkdirSync(join(dir, "output"), { recursive: true });
  writeFileSync(join(dir, "plain.txt"), "plain\n");
  execFileSync("cc", ["-std=gnu11", "-O1", "-static", "-o", join(dir, "random-calls"), join(ROOT, "test", "fuzz", "random-calls.c")]);
  copyFileSync(join(dir, "random-calls"), join(dir, "output", "program"));
  return dir;
}

function allowedNumbers(): string[] {
  const arch = filterArch() ?? "x64";
  const answers = (row: { readonly answer: string; readonly clauses?: readonly { readonly answer: string }[] }): boolean =>
    row.answer === "allow" || row.clauses?.some(({ answer }) => answer === "allow") === true;
  return [...rowsByNumber(arch)].filter(([, row]) => answers(row)).map(([number]) => String(number));
}

async function output(sandbox: Sandbox, command: readonly string[]): Promise<string> {
  const { stdout } = await sandbox.exec({ command, cwd: "/", timeoutMs: 20_000 });
  return Buffer.from(stdout).toString("latin1").trim();
}

interface Figures {
  batches: number;
  programs: number;
  calls: number;
  succeeded: number;
  /** Batches whose programs ended the one that counts. */
  cut: number;
}

async function round(sandbox: Sandbox, seed: number, figures: Figures): Promise<void> {
  const command = ["/workspace/random-calls", String(seed), String(PROGRAMS), String(CALLS), ...allowedNumbers()];
  const { stdout } = await sandbox.exec({ command, cwd: "/tmp", timeoutMs: 60_000, outputBytes: 1 << 20 });
  const lines =
    Buffer.from(stdout)
      .toString("latin1")
      .match(/^\d+ \d+ \d+$/gm) ?? [];
  const [programs = 0, calls = 0, succeeded = 0] = lines.at(-1)?.split(" ").map(Number) ?? [];
  figures.batches += 1;
  if (programs < PROGRAMS) figures.cut += 1;
  figures.programs += programs;
  figures.calls += calls;
  figures.succeeded += succeeded;
}

async function fuzz(runtime: RuntimeName, seconds: number, seed: number): Promise<Figures> {
  const figures: Figures = { batches: 0, programs: 0, calls: 0, succeeded: 0, cut: 0 };
  const dir = mkdtempSync(join(tmpdir(), "corral-contained-"));
  try {
    const codebaseDir = project(dir);
    await using bed = await openBed({ buildDir: join(ROOT, "guest", "build"), env: process.env, uid: process.getuid?.() ?? 0 });
    await using outside = await watchOutside(bed);
    const until = performance.now() + seconds * 1_000;
    for (let turn = seed; performance.now() < until; turn += BATCHES) {
      const rules = [
        { pattern: "**", permission: "read" },
        { pattern: "/output/**", permission: "write" },
      ] as const;
      const sandbox = await bed.corral.create({ codebaseDir, policy: { rules }, runtime, limits: LIMITS });
      const space = await output(sandbox, ["/bin/readlink", "/proc/self/ns/pid"]);
      try {
        for (let batch = 0; batch < BATCHES && (batch === 0 || performance.now() < until); batch++) {
          await round(sandbox, turn + batch, figures);
          outside.demandAsBefore();
          assert.equal(await output(sandbox, ["/bin/echo", "alive"]), "alive", "the sandbox no longer answers");
        }
      } catch (error) {
        throw new Error(`seed ${turn} of ${runtime}: ${(error as Error).message}`, { cause: error });
      } finally {
        await sandbox.destroy();
      }
      const left = (await bed.corral.census()).filter(({ sandboxId }) => sandboxId === sandbox.id);
      assert.deepEqual([...left, ...processesIn(space)], [], `seed ${turn} of ${runtime}: something is left`);
      outside.demandAsBefore();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return figures;
}

describe.each<RuntimeName>(["native", "bwrap"])("%s", (runtime) => {
  verifies(
    "security/random-programs",
    "random programs of allowed system calls change nothing outside, and nothing of them is left",
    async (context) => {
      if (runtime === "bwrap" && BWRAP_MISSING !== undefined) return context.skip(BWRAP_MISSING);
      if (process.getuid?.() !== 0) return context.skip("settings of the machine are planted flags only where root could change them");
      const figures = await fuzz(runtime, fuzzSeconds(SECONDS), fuzzSeed(1));
      tellFigures({ runtime, ...figures });
      // Calls that never succeed would prove nothing.
      expect(figures.succeeded).toBeGreaterThan(100);
    },
    120_000,
  );
});
