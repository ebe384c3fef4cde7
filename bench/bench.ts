// What a bench is: a file per number of SPEC.md, run by `./corral bench`. This file holds the contract and the statistics, no timing of its own.
// Invariant: a row is computed from samples that were taken in this run; a floor or peer is measured in the same run, in turn with ours.

import type { Corral, PoolPlan } from "../src/api/corral.ts";

export interface Row {
  readonly id: string;
  readonly metric: string;
  readonly unit: string;
  readonly n: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Name of the floor or peer measured in the same run. */
  readonly against?: string;
  /** Ours divided by the floor or peer, at the median unless the metric says otherwise. */
  readonly ratio?: number;
  /** What SPEC.md asks, in words. */
  readonly target: string;
  /** null: the row is told, nothing is asked of it. */
  readonly met: boolean | null;
  /** Raw samples, in the order they were taken. */
  readonly samples: readonly number[];
  /** Raw samples of the floor or peer. */
  readonly againstSamples?: readonly number[];
  readonly note?: string;
}

export interface BenchContext {
  /** Fewer samples: the form that CI runs. */
  readonly quick: boolean;
  /** An empty directory that is removed afterwards. */
  readonly scratch: string;
  /** Opens Corral in this process over a data directory of its own. */
  readonly open: (pool?: PoolPlan) => Promise<Corral>;
  /** Tells a person what goes on; `done` of `total`. */
  readonly progress: (step: string, done: number, total: number) => void;
  /** Absolute path of the `corral` launcher's program: argv to run Corral as a process. */
  readonly corralArgv: readonly string[];
}

export interface Bench {
  readonly id: string;
  readonly what: string;
  run(context: BenchContext): AsyncIterable<Row>;
}

/** The value below which `share` of the samples lie (nearest rank). */
export function percentile(samples: readonly number[], share: number): number {
  if (samples.length === 0) return Number.NaN;
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1));
  return sorted[rank] ?? Number.NaN;
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);

export interface RowFacts {
  readonly id: string;
  readonly metric: string;
  readonly unit: string;
  readonly samples: readonly number[];
  readonly target: string;
  readonly against?: { readonly name: string; readonly samples: readonly number[] };
  /** Ratio of pairs taken in turn (median of ratios) instead of ratio of medians. */
  readonly paired?: boolean;
  readonly judge?: (row: { p50: number; p95: number; p99: number; ratio: number | undefined }) => boolean;
  readonly note?: string;
}

/** Makes a row from samples. */
export function row(facts: RowFacts): Row {
  const p50 = percentile(facts.samples, 0.5);
  const p95 = percentile(facts.samples, 0.95);
  const p99 = percentile(facts.samples, 0.99);
  const ratio = facts.against === undefined ? undefined : ratioOf(facts.samples, facts.against.samples, facts.paired ?? false);
  return {
    id: facts.id,
    metric: facts.metric,
    unit: facts.unit,
    n: facts.samples.length,
    p50,
    p95,
    p99,
    ...(facts.against === undefined ? {} : { against: facts.against.name, againstSamples: facts.against.samples }),
    ...(ratio === undefined ? {} : { ratio }),
    target: facts.target,
    met: facts.judge === undefined ? null : facts.judge({ p50, p95, p99, ratio }),
    samples: facts.samples,
    ...(facts.note === undefined ? {} : { note: facts.note }),
  };
}

function ratioOf(ours: readonly number[], theirs: readonly number[], paired: boolean): number {
  if (!paired) return median(ours) / median(theirs);
  const pairs = ours.slice(0, theirs.length).map((value, index) => value / (theirs[index] ?? Number.NaN));
  return median(pairs);
}

/** Milliseconds that `act` took. */
export async function timed(act: () => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint();
  await act();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

export interface Turns {
  readonly n: number;
  readonly warmup: number;
  readonly ours: () => Promise<number>;
  readonly theirs: () => Promise<number>;
  readonly progress?: (done: number, total: number) => void;
}

/** Takes samples of two things in turn (A B B A A B …), so that a drift of the machine meets both alike. */
export async function inTurn(turns: Turns): Promise<{ ours: number[]; theirs: number[] }> {
  for (let i = 0; i < turns.warmup; i++) {
    await turns.ours();
    await turns.theirs();
  }
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < turns.n; i++) {
    turns.progress?.(i, turns.n);
    if (i % 2 === 0) {
      ours.push(await turns.ours());
      theirs.push(await turns.theirs());
    } else {
      theirs.push(await turns.theirs());
      ours.push(await turns.ours());
    }
  }
  return { ours, theirs };
}
