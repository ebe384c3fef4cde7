// .ci/run on a checkout whose `corral` only says what it is told to: which parts run, what the last line is, when it fails.

import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished } from "vitest";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const CLOSING = "12 passed, 0 failed, 1 skipped";

/** Runs CI where each word of `corral` ends with the code that is given, and apt-get installs nothing. */
function ci(codes: Readonly<Record<string, number>>, testOutput = `skipped: a.test.ts > b: no moon\n${CLOSING}`) {
  const dir = mkdtempSync(join(tmpdir(), "corral-ci-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, "bin"));
  cpSync(join(ROOT, ".ci"), join(dir, ".ci"), { recursive: true });
  const cases = Object.entries(codes).map(([word, code]) => `${word}) exit ${code} ;;`);
  const stubs = {
    corral: `echo "ran: $*"\n[ "$1" != test ] || printf '%s\\n' "${testOutput}"\ncase $1 in ${cases.join(" ")} esac`,
    "bin/apt-get": "exit 0",
    "bin/sudo": "exit 0",
  };
  for (const [name, body] of Object.entries(stubs)) {
    writeFileSync(join(dir, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(dir, name), 0o755);
  }
  const env = { ...process.env, PATH: `${join(dir, "bin")}:${process.env["PATH"] ?? ""}` };
  const done = spawnSync(join(dir, ".ci/run"), { cwd: "/", encoding: "utf8", env });
  return { code: done.status, lines: done.stdout.trimEnd().split("\n") };
}

describe("CI", () => {
  verifies("house/ci-whole", "runs checks, tests, demo and benches and ends with the runner's closing line", () => {
    const { code, lines } = ci({});
    const ran = lines.filter((line) => line.startsWith("ran: "));
    expect(ran).toEqual(["ran: check", "ran: test", "ran: demo", "ran: bench --quick"]);
    expect(lines.slice(-2)).toEqual(["skipped: a.test.ts > b: no moon", CLOSING]);
    expect(code).toBe(0);
  });

  verifies("house/ci-truthful", "fails when any part fails, and when the closing line is missing; the other parts still run", () => {
    for (const word of ["check", "test", "demo", "bench"]) {
      const { code, lines } = ci({ [word]: 3 });
      expect(code, word).toBe(1);
      expect(lines, word).toContain("ran: bench --quick");
      expect(lines.at(-1), word).toBe(CLOSING);
    }
    const cut = ci({}, "Segmentation fault");
    expect(cut.code).toBe(1);
    expect(cut.lines.at(-1)).toBe("the test runner ended without its closing line");
  });
});
