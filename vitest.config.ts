// How the tests are grouped. Not the runner's front door: that is test/tools/run.ts, which prints skips and the closing line.
// Invariant: a file named `*.exclusive.test.ts` runs alone, after all others; every other file may run beside any other.

import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { LONGER_MS } from "./test/fuzz/budget.ts";
import { LongFirst } from "./test/tools/long-first.ts";
import { leftOut } from "./test/tools/needs-root.ts";

const TESTS = ["src/**/*.test.ts", "guest/**/*.test.ts", "test/**/*.test.ts", "bench/**/*.test.ts"];
/** Files that need the kernel's state for themselves: they count mounts, fill a disk, or kill the process that they started. */
const EXCLUSIVE = ["**/*.exclusive.test.ts"];
const NEVER = ["**/node_modules/**", ".node/**", "examples/**", "test/fixtures/**", ...leftOut(process.getuid?.()).keys()];

export default defineConfig({
  test: {
    // A process for each file: tests change uid, cwd, rlimits and environment, which threads would share.
    pool: "forks",
    // One more than cores: half of a test of a server is waiting.
    maxWorkers: availableParallelism() + 1,
    // Generous: a busy machine is no failure, a hang still is.
    testTimeout: 120_000 + LONGER_MS,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 30_000 } },
    teardownTimeout: 10_000,
    passWithNoTests: false,
    sequence: { sequencer: LongFirst },
    // A test that is only switched off on one machine must not pass elsewhere.
    allowOnly: false,
    projects: [
      { extends: true, test: { name: "parallel", include: TESTS, exclude: [...NEVER, ...EXCLUSIVE], sequence: { groupOrder: 0 } } },
      { extends: true, test: { name: "exclusive", include: EXCLUSIVE, exclude: NEVER, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
});
