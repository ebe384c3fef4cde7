// What an idle sandbox costs: processes, its own memory (PSS), and all memory that the machine lost (kernel objects included).
// Then, with all of them live, whether a command is still answered in time.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sandbox } from "../src/api/sandbox.ts";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row, timed } from "./bench.ts";
import { guestPids, pssKib } from "./guests.ts";
import { request, smallProject, TRUE } from "./project.ts";

const ID = "density";
const MIB = 1024 ** 2;
const SETTLE_MS = 1500;

async function* run(context: BenchContext): AsyncIterable<Row> {
  const dir = smallProject(join(context.scratch, "project"));
  const corral = await context.open();
  const n = context.quick ? 100 : 1000;
  const alone = await answerMs(await one(corral, dir), 50);
  const ownBefore = ownMemory();
  await settle();
  const processesBefore = guestPids();
  const before = unavailableBytes();
  const live: Sandbox[] = [];
  const samples: number[] = [];
  for (let i = 0; i < n; i++) {
    context.progress("sandboxes made", i, n);
    samples.push(await timed(async () => live.push(await corral.create(request(dir)))));
  }
  await settle();
  const after = unavailableBytes();
  const guests = guestPids();
  const each = (after - before - (ownMemory() - ownBefore)) / n / MIB;
  yield row({
    id: ID,
    metric: "memory each, kernel included",
    unit: "MiB",
    samples: [each],
    target: "≤ 0.6 MiB",
    judge: ({ p50 }) => p50 <= 0.6,
    note: `${n} live; MemAvailable lost, less this process's own growth`,
  });
  yield row({ id: ID, metric: "PSS of PID 1", unit: "KiB", samples: pssKib(guests.slice(0, 100)), target: "told" });
  yield row({
    id: ID,
    metric: "processes each",
    unit: "processes",
    samples: [(guests.length - processesBefore.length) / n],
    target: "1",
    judge: ({ p50 }) => p50 === 1,
  });
  yield row({ id: ID, metric: "create while filling up", unit: "ms", samples, target: "told" });
  const first = live[0];
  if (first === undefined) throw new Error("no sandbox was made");
  const crowded = await answerMs(first, 50);
  yield row({
    id: ID,
    metric: `exec with ${n} live`,
    unit: "ms",
    samples: crowded,
    against: { name: "exec with one live", samples: alone },
    target: "≤ 2x",
    judge: ({ ratio }) => (ratio ?? 9) <= 2,
  });
  for (const [index, sandbox] of live.entries()) {
    context.progress("destroyed", index, n);
    await sandbox.destroy();
  }
}

async function one(corral: Awaited<ReturnType<BenchContext["open"]>>, dir: string): Promise<Sandbox> {
  return corral.create(request(dir));
}

async function answerMs(sandbox: Sandbox, n: number): Promise<number[]> {
  const samples: number[] = [];
  for (let i = 0; i < n + 5; i++) {
    const ms = await timed(() => sandbox.exec({ command: TRUE }));
    if (i >= 5) samples.push(ms);
  }
  return samples;
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

function unavailableBytes(): number {
  const text = readFileSync("/proc/meminfo", "utf8");
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.NaN) * 1024;
  return field("MemTotal") - field("MemAvailable");
}

const ownMemory = (): number => process.memoryUsage().rss;

export const bench: Bench = { id: ID, what: "Idle sandboxes: memory and processes each", run };
