// The samples of the READMEs are run: each `$ line` of a console block, and what follows it is what it prints, times and ids aside.
// Invariant: a reader who types a sample sees what the paper shows.

import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished } from "vitest";
import { removeTree } from "./fixtures/remove-tree.ts";
import { read, ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

interface Sample {
  readonly command: string;
  readonly output: string;
}

function samplesOf(text: string): Sample[] {
  const blocks = [...text.matchAll(/^```console\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? "");
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const end = part.indexOf("\n");
        return { command: part.slice(0, end), output: part.slice(end + 1) };
      }),
  );
}

/** Lines with what differs between machines and runs made the same. Sorted: stdout and stderr are two streams, in no order. */
function steady(output: string): string[] {
  return output
    .replace(/\d+(?:\.\d+)? (?:ms|s)\b/g, "N ms")
    .replace(/\bsb[a-z0-9]{20}\b/g, "SB")
    .replace(/\b(?:native|bwrap), kernel engine/g, "RUNTIME, kernel engine")
    .replace(/^corral: weaker .*\n/gm, "")
    .split("\n")
    .sort();
}

/** Runs a sample as a reader would, but over a data directory of the test. */
function runSample(command: string): string {
  const data = mkdtempSync(join(tmpdir(), "corral-readme-"));
  onTestFinished(() => removeTree(data));
  const line = command.replace(/^\.\/corral (\w+)/, `"$NODE" src/main.ts $1 --data ${data}`);
  const env = { ...process.env, NODE: process.execPath, LC_ALL: "C" };
  return spawnSync("sh", ["-c", `{ ${line}; } 2>&1`], { cwd: ROOT, encoding: "utf8", env }).stdout;
}

describe("samples", () => {
  verifies("house/readme-samples", "what README shows is what its commands print, in both languages", () => {
    const samples = samplesOf(read("README.md"));
    expect(samples.length).toBeGreaterThan(0);
    expect(samplesOf(read("README.zh.md"))).toEqual(samples);
    for (const { command, output } of samples) expect(steady(runSample(command)), command).toEqual(steady(output));
  });
});
