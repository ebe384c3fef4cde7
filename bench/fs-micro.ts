// Single file operations in the view against the same directory on the host, by one small program run in both places in turn.
// The program times itself with a monotonic clock inside, so no exec is in the figure.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import { tree } from "./project.ts";

const ID = "fs-micro";
const OPERATIONS = ["stat", "open-read", "readdir", "create-4k", "write-bulk", "read-bulk"] as const;
const LIMITS: Readonly<Record<(typeof OPERATIONS)[number], number>> = {
  stat: 1.8,
  "open-read": 1.8,
  readdir: 1.8,
  "create-4k": 1.8,
  "write-bulk": 1.05,
  "read-bulk": 1.05,
};
const BULK_MIB = 1024;

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = tree(join(context.scratch, "tree"), { files: 2000, perDirectory: 20 });
  const native = join(context.scratch, "native");
  execFileSync("cp", ["-r", dir, native]);
  for (const place of [dir, native]) mkdirSync(join(place, "output"), { recursive: true });
  const probe = join(dir, "fs-probe");
  execFileSync("cc", ["-O2", "-static", "-o", probe, join(import.meta.dirname, "fs-probe.c")]);
  copyFileSync(probe, join(native, "fs-probe"));
  const corral = await context.open();
  const policy = await corral.policies.load("agent-safe");
  await using sandbox = await corral.create({ codebaseDir: dir, policy });
  const rounds = context.quick ? 3 : 15;
  const bulk = context.quick ? 128 : BULK_MIB;
  for (const operation of OPERATIONS) {
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = 0; i < rounds; i++) {
      context.progress(operation, i, rounds);
      const args = [operation, String(bulk)];
      if (i === 0) await inside(sandbox, args); // one unmeasured round each: caches alike
      if (i === 0) outside(native, args);
      ours.push(await inside(sandbox, args));
      theirs.push(outside(native, args));
    }
    const limit = LIMITS[operation];
    yield row({
      id: ID,
      metric: operation,
      unit: "µs/op",
      samples: ours,
      against: { name: "native", samples: theirs },
      paired: true,
      target: `≤ ${limit}x native`,
      judge: ({ ratio }) => (ratio ?? 9) <= limit,
    });
  }
}

async function inside(sandbox: Sandbox, args: readonly string[]): Promise<number> {
  const result = await sandbox.exec({ command: ["/workspace/fs-probe", ...args], cwd: "/workspace" });
  if (result.exitCode !== 0) throw new Error(`fs-probe inside: ${new TextDecoder().decode(result.stderr)}`);
  return Number(new TextDecoder().decode(result.stdout));
}

const outside = (cwd: string, args: readonly string[]): number => Number(execFileSync("./fs-probe", args, { cwd, encoding: "utf8" }));

export const bench: Bench = { id: ID, what: "File operations in the view", run };
