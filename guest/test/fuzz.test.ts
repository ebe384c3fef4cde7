// The fuzzers' short form for every day: the kept corpus under AddressSanitizer with gcc, then five seconds each with libFuzzer where clang is.
// The long form: `./corral fuzz frames` and the like.

import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect } from "vitest";
import { fuzzSeconds, fuzzSeed, tellFigures } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { fuzzProgram } from "./build.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const CORPUS = join(HERE, "../../test/fixtures/fuzz");
const SECONDS = fuzzSeconds(5);

/** The files a harness names in its `fuzz-sources:` line. */
function sourcesOf(harness: string): string[] {
  const line = /fuzz-sources: (.*) \*\//.exec(readFileSync(join(HERE, `fuzz-${harness}.c`), "latin1"))?.[1];
  return (line ?? "").split(" ").map((name) => join(HERE, "..", name));
}

describe.each(["frames", "records", "clients", "files", "dns"])("%s", (harness) => {
  const seeds = join(CORPUS, harness);

  verifies("guest/untrusted-bytes", `the kept corpus of ${harness} breaks no property under AddressSanitizer`, () => {
    const folder = mkdtempSync(join(tmpdir(), "corral-replay-"));
    try {
      const program = join(folder, "replay");
      const flags = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", `-I${dirname(HERE)}`];
      execFileSync("cc", [...flags, join(HERE, "replay.c"), join(HERE, `fuzz-${harness}.c`), ...sourcesOf(harness), "-o", program]);
      const files = readdirSync(seeds).map((name) => join(seeds, name));
      expect(files.length).toBeGreaterThan(4);
      expect(execFileSync(program, files, { encoding: "utf8", stdio: "pipe" }).trim()).toBe(String(files.length));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  verifies("guest/untrusted-bytes", `${SECONDS} s of fuzzing ${harness} break no property`, (context) => {
    if (spawnSync("clang", ["--version"]).status !== 0)
      return context.skip("clang with libFuzzer is not installed (apt-get install clang libclang-rt-14-dev)");
    const program = fuzzProgram(harness);
    const folder = mkdtempSync(join(tmpdir(), "corral-fuzz-"));
    try {
      cpSync(seeds, join(folder, "corpus"), { recursive: true });
      const run = spawnSync(
        program,
        [join(folder, "corpus"), `-max_total_time=${SECONDS}`, `-seed=${fuzzSeed(0)}`, "-max_len=8192", `-artifact_prefix=${folder}/`],
        { encoding: "utf8", maxBuffer: 1 << 28 },
      );
      expect(run.stderr.slice(-3000)).toMatch(/Done \d+ runs/);
      tellFigures({ last: run.stderr.trim().split("\n").slice(-2) });
      expect(run.status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
