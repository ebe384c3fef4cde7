// How long a fuzzer runs: its short form in the suite, or for as long as `./corral fuzz TARGET --seconds N --seed S` said, with that seed.
// Invariant: the same seed asks the same in the same order; the figures of a long run are printed, found something or not.

import fc from "fast-check";

const SECONDS = process.env["CORRAL_FUZZ_SECONDS"];
const SEED = process.env["CORRAL_FUZZ_SEED"];

/** Runs of a property that waits between two looks at the clock. */
const AT_ONCE = 4;

/** What every timeout of a test is longer by in a long run. */
export const LONGER_MS = Number(SECONDS ?? 0) * 3_000;

export const isLong = SECONDS !== undefined;

/** Of a fuzzer that counts seconds; `short` in the suite. */
export function fuzzSeconds(short: number): number {
  return SECONDS === undefined ? short : Number(SECONDS);
}

export function fuzzSeed(short: number): number {
  return SEED === undefined ? short : Number(SEED);
}

/** Of a property that never waits; `short` in the suite, with a new seed each time. */
export function runs<T>(short: number): fc.Parameters<T> {
  if (SECONDS === undefined) return { numRuns: short };
  return {
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: Number(SECONDS) * 1_000,
    maxSkipsPerRun: Number.MAX_SAFE_INTEGER,
    ...(SEED === undefined ? {} : { seed: Number(SEED) }),
    reporter: (details) => {
      // What was interrupted counts as failed, without an error.
      const found = details.failed && details.counterexample !== null;
      process.stdout.write(`fuzz: ${details.numRuns} runs, seed ${details.seed}\n`);
      if (found) throw new Error(fc.defaultReportMessage(details), { cause: details.errorInstance });
      if (details.numRuns === 0) throw new Error("fuzz: nothing was tried in that time");
    },
  };
}

/** Holds a property that waits: a run that is under way is always waited for, so that none goes on behind the next. */
export async function fuzzed<T>(property: fc.IAsyncProperty<T>, short: number): Promise<void> {
  if (SECONDS === undefined) return await fc.assert(property, { numRuns: short });
  const until = performance.now() + Number(SECONDS) * 1_000;
  let seed = fuzzSeed(Date.now() % 2 ** 31);
  let done = 0;
  for (; done === 0 || performance.now() < until; seed++, done += AT_ONCE) await fc.assert(property, { numRuns: AT_ONCE, seed });
  process.stdout.write(`fuzz: ${done} runs, the last seed ${seed - 1}\n`);
}

/** Prints what a fuzzer that counts by itself did. */
export function tellFigures(figures: Readonly<Record<string, unknown>>): void {
  if (isLong) process.stdout.write(`fuzz: ${JSON.stringify(figures)}\n`);
}
