// A server that is watched while it is used, and what it left when it has ended. Told is what grows: memory, descriptors, guests, mounts,
// cgroups. Invariant: what is left over is counted after the server's end, so what it keeps started ahead is not among it.

import { readdirSync, readFileSync } from "node:fs";
import type { BenchContext, Row } from "./bench.ts";
import { row } from "./bench.ts";
import { guestPids } from "./guests.ts";
import { type BenchServer, benchServer } from "./server.ts";

const SAMPLE_MS = 1_000;
/** Heaps fill and caches warm before a slope means anything: this share of the time is left out. */
const WARM_SHARE = 1 / 3;
/** A line that rises less than this over the whole time says nothing, KiB. */
const NOISE_KIB = 4_096;

interface Sample {
  readonly atMs: number;
  readonly rssKib: number;
  readonly descriptors: number;
}

/** The rows of `use`, and those of the server that it used for about `seconds`. */
export async function* watched(
  context: BenchContext,
  { id, seconds }: { readonly id: string; readonly seconds: number },
  use: (server: BenchServer) => Promise<readonly Row[]>,
): AsyncIterable<Row> {
  const before = census();
  await using parts = new AsyncDisposableStack();
  const server = parts.use(await benchServer(context));
  const samples: Sample[] = [];
  const began = performance.now();
  const sampler = setInterval(() => samples.push({ atMs: performance.now() - began, ...measure(server.pid) }), SAMPLE_MS);
  try {
    yield* await use(server);
  } finally {
    clearInterval(sampler);
  }
  await parts.disposeAsync();
  const after = census();
  const warm = samples.filter(({ atMs }) => atMs > seconds * 1000 * WARM_SHARE);
  const kib = slopeAMinute(warm.map(({ atMs, rssKib }) => [atMs, rssKib]));
  const noise = spread(warm.map(({ rssKib }) => rssKib));
  yield row({ id, metric: "memory of the server", unit: "KiB", samples: samples.map(({ rssKib }) => rssKib), target: "told" });
  // Over the whole time the line rises less than memory moves up and down anyway.
  const rise = kib * ((seconds * (1 - WARM_SHARE)) / 60);
  const metric = `memory's slope, KiB a minute (moves ${Math.round(noise)} KiB by itself)`;
  yield one(id, { metric, value: kib, target: "within its noise", met: rise <= Math.max(noise, NOISE_KIB) });
  yield row({
    id,
    metric: "descriptors of the server",
    unit: "files",
    samples: warm.map(({ descriptors }) => descriptors),
    target: "told",
  });
  for (const what of ["guests", "mounts", "cgroups"] as const) {
    const value = after[what] - before[what];
    yield one(id, { metric: `${what} left over`, value, target: "0", met: value <= 0 });
  }
}

interface Fact {
  readonly metric: string;
  readonly value: number;
  readonly target: string;
  readonly met: boolean;
  readonly note?: string;
}

/** A row of one number. */
export function one(id: string, { metric, value, target, met, note = "" }: Fact): Row {
  return row({ id, metric, unit: "", samples: [value], target, judge: () => met, ...(note === "" ? {} : { note }) });
}

function census(): { readonly guests: number; readonly mounts: number; readonly cgroups: number } {
  return { guests: guestPids().length, mounts: mounts(), cgroups: cgroups() };
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
