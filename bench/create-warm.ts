// create → first command's exit status with a sandbox that was started ahead, and with none, in turn: over a directory, and over nothing,
// where no walk of a codebase hides the difference.

import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import type { Corral } from "../src/api/corral.ts";
import type { CreateRequest } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { inTurn, row } from "./bench.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "create-warm";
const KIND = "host";

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open({ perTemplate: 2, max: 4, idleMs: 3_600_000 });
  const { policy } = request(dir);
  yield* both(context, corral, "nothing", { policy });
  yield* both(context, corral, "a directory of 20 files", request(dir));
}

async function* both(context: BenchContext, corral: Corral, over: string, asked: CreateRequest): AsyncIterable<Row> {
  const stages: Record<string, number[]> = {};
  const { ours, theirs } = await inTurn({
    n: context.quick ? 60 : 400,
    warmup: 10,
    ours: async () => {
      const id = await ready(corral);
      return await first(corral, { ...asked, id }, stages);
    },
    theirs: async () => {
      await ready(corral, "leave it"); // nothing is started while the other side is measured either
      return await first(corral, asked, {});
    },
    progress: (done, total) => context.progress(`over ${over}: started ahead; cold in turn`, done, total),
  });
  yield row({
    id: ID,
    metric: `over ${over}`,
    unit: "ms",
    samples: ours,
    against: { name: "cold", samples: theirs },
    paired: true,
    target: "≤ 1 ms at p50",
    judge: ({ p50 }) => p50 <= 1,
  });
  for (const [stage, samples] of Object.entries(stages))
    yield row({ id: ID, metric: `over ${over}, stage ${stage}`, unit: "ms", samples, target: "where the time goes" });
}

async function first(corral: Corral, asked: CreateRequest, stages: Record<string, number[]>): Promise<number> {
  const start = performance.now();
  const sandbox = await corral.create(asked);
  const created = performance.now();
  const { exitCode } = await sandbox.exec({ command: TRUE });
  const ms = performance.now() - start;
  if (exitCode !== 0) throw new Error(`the command ended with ${exitCode}`);
  const { timings, source } = sandbox.info();
  if ((source === "pool") !== (asked.id !== undefined)) throw new Error("it came from where it should not");
  for (const [stage, value] of Object.entries({ ...timings, execMs: performance.now() - created })) (stages[stage] ??= []).push(value);
  await sandbox.destroy();
  return ms;
}

async function ready(corral: Corral, how?: "leave it"): Promise<string> {
  const { pool } = corral;
  if (pool === undefined) throw new Error("it was opened with a pool");
  pool.want(KIND, {}, true);
  while (pool.figures().ready < 2) await turn();
  return how === undefined ? (pool.take(KIND) ?? "") : "";
}

export const bench: Bench = { id: ID, what: "A sandbox that was started ahead to its first command's exit status", run };
