// A server under steady load: a create, a command and a destroy, fifty times a second, for half an hour. Told is what grows: memory,
// descriptors, mounts, cgroups, processes. Runs when it is named; its quick form lasts half a minute.

import { readdirSync, readFileSync } from "node:fs";
import type { Bench, BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import { guestPids } from "./guests.ts";
import { TRUE } from "./project.ts";
import { type BenchServer, benchServer } from "./server.ts";

const ID = "soak";
const PER_SECOND = 50;
const SECONDS = 30 * 60;
const QUICK_SECONDS = 30;
const SAMPLE_MS = 1_000;
/** More under way at once means that the machine does not keep up; further ones are counted as late and not begun. */
const MAX_UNDER_WAY = 200;
/** Heaps fill and caches warm before a slope means anything: this share of the time is left out. */
const WARM_SHARE = 1 / 3;

interface Sample {
  readonly atMs: number;
  readonly rssKib: number;
  readonly descriptors: number;
}

async function* run(context: BenchContext): AsyncIterable<Row> {
  const seconds = context.quick ? QUICK_SECONDS : SECONDS;
  // Before it begins and after it has ended: what it keeps started ahead is not left over.
  const before = { guests: guestPids().length, mounts: mounts(), cgroups: cgroups() };
  await using parts = new AsyncDisposableStack();
  const server = parts.use(await benchServer(context));
  const samples: Sample[] = [];
  const began = performance.now();
  const sampler = setInterval(() => samples.push({ atMs: performance.now() - began, ...measure(server.pid) }), SAMPLE_MS);
  const load = await underLoad(server, seconds, (done) => context.progress(`${PER_SECOND} a second`, done, seconds * PER_SECOND));
  clearInterval(sampler);
  await parts.disposeAsync();
  const after = { guests: guestPids().length, mounts: mounts(), cgroups: cgroups() };
  const warm = samples.filter(({ atMs }) => atMs > seconds * 1000 * WARM_SHARE);
  yield row({ id: ID, metric: "create, command, destroy", unit: "ms", samples: load.latencies, target: "told" });
  yield one("failed", load.failed, "0", load.failed === 0, load.failures);
  yield one("not begun, since the machine did not keep up", load.late, "0", load.late === 0);
  const kib = slopeAMinute(warm.map(({ atMs, rssKib }) => [atMs, rssKib]));
  const noise = spread(warm.map(({ rssKib }) => rssKib));
  yield row({ id: ID, metric: "memory of the server", unit: "KiB", samples: samples.map(({ rssKib }) => rssKib), target: "told" });
  // Over the whole time the line rises less than memory moves up and down anyway.
  const rise = kib * ((seconds * (1 - WARM_SHARE)) / 60);
  yield one(
    `memory's slope, KiB a minute (moves ${Math.round(noise)} KiB by itself)`,
    kib,
    "within its noise",
    rise <= Math.max(noise, 4096),
  );
  const descriptors = warm.map((sample) => sample.descriptors);
  yield row({ id: ID, metric: "descriptors of the server", unit: "files", samples: descriptors, target: "told" });
  for (const what of ["guests", "mounts", "cgroups"] as const)
    yield one(`${what} left over`, after[what] - before[what], "0", after[what] <= before[what]);
}

interface Load {
  readonly latencies: number[];
  failed: number;
  late: number;
  failures: string;
}

/** An open loop: the next one begins at its time, whether or not those before have ended. */
async function underLoad({ client }: BenchServer, seconds: number, progress: (done: number) => void): Promise<Load> {
  const load: Load = { latencies: [], failed: 0, late: 0, failures: "" };
  const underWay = new Set<Promise<void>>();
  const round = async (): Promise<void> => {
    const began = performance.now();
    try {
      await using sandbox = await client.create({ timeoutMs: 60_000 });
      const { exitCode } = await sandbox.exec({ command: TRUE });
      if (exitCode !== 0) throw new Error(`exit code ${exitCode}`);
    } catch (error) {
      load.failed++;
      load.failures = error instanceof Error ? error.message : String(error);
      return;
    }
    load.latencies.push(performance.now() - began);
  };
  const began = performance.now();
  for (let i = 0; i < seconds * PER_SECOND; i++) {
    const wait = began + (i * 1000) / PER_SECOND - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    if (i % PER_SECOND === 0) progress(i);
    if (underWay.size >= MAX_UNDER_WAY) load.late++;
    else {
      const running: Promise<void> = round().finally(() => underWay.delete(running));
      underWay.add(running);
    }
  }
  await Promise.all(underWay);
  return load;
}

function one(metric: string, value: number, target: string, met: boolean, note = ""): Row {
  return row({ id: ID, metric, unit: "", samples: [value], target, judge: () => met, ...(note === "" ? {} : { note }) });
}

function measure(pid: number): Omit<Sample, "atMs"> {
  const rssKib = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? Number.NaN);
  return { rssKib, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

function mounts(): number {
  return readFileSync("/proc/self/mountinfo", "latin1").split("\n").length;
}

/** Of every hierarchy together, as the kernel counts them. */
function cgroups(): number {
  const lines = readFileSync("/proc/cgroups", "latin1").trim().split("\n").slice(1);
  return lines.reduce((sum, line) => sum + Number(line.split("\t")[2] ?? 0), 0);
}

/** Of the line through all points, least squares; x is in ms. */
function slopeAMinute(points: readonly (readonly [number, number])[]): number {
  const mean = (at: 0 | 1): number => points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const above = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  const below = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
  return (above / below) * 60_000;
}

function spread(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor(sorted.length * 0.95)] ?? 0) - (sorted[Math.floor(sorted.length * 0.05)] ?? 0);
}

export const bench: Bench = { id: ID, what: "A server under steady load", run };
