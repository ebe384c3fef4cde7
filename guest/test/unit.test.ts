// Runs unit.c: the pure parts of the guest under AddressSanitizer and UBSan.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";

const HERE = dirname(fileURLToPath(import.meta.url));

verifies(
  "guest/untrusted-bytes",
  "frames, records, buffers, the ring, counters, the filter's patching, the loop, connections and the stub's questions behave at their edges",
  () => {
    const sources = /unit-sources: (.*) \*\//.exec(readFileSync(join(HERE, "unit.c"), "latin1"))?.[1] ?? "";
    const folder = mkdtempSync(join(tmpdir(), "corral-unit-"));
    try {
      const program = join(folder, "unit");
      const flags = [
        "-std=c11",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
      ];
      execFileSync("cc", [
        ...flags,
        `-I${dirname(HERE)}`,
        join(HERE, "unit.c"),
        ...sources.split(" ").map((name) => join(HERE, "..", name)),
        "-o",
        program,
      ]);
      // Leaks of a program that ends are not the question here.
      const said = execFileSync(program, { encoding: "utf8", env: { ASAN_OPTIONS: "detect_leaks=0" } });
      expect(said.trim().split("\n")).toEqual([
        "frames",
        "records",
        "buffers",
        "rings",
        "counters",
        "patching",
        "loops",
        "timers",
        "connections",
        "stub questions",
        "stub names",
        "proxy words",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
