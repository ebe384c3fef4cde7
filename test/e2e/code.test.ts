// `corral py` and `corral repl`: code in a sandbox of its own, as a person or a pipe gives it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { verifies } from "../verifies.ts";
import { run, scratch } from "./command-line.ts";

verifies(
  "cli/py",
  "a file or a line of Python runs in a sandbox: its output, its last value, its traceback and an exit code that says how it ended",
  async () => {
    using place = scratch();
    const { data } = place;
    const job =
      "import os, sys\nprint(input().upper())\nprint('err', file=sys.stderr)\nopen('/tmp/left', 'w')\nos.path.exists('/workspace/job.py')\n";
    const dir = place.codebase({ "job.py": job });
    const [file, failed, late] = await Promise.all([
      run(["py", join(dir, "job.py"), "--dir", dir, ...data], { input: "line\n" }),
      run(["py", "-c", "def f(): 1 / 0\nf()", "--data", `${data[1]}-2`]),
      run(["py", "-c", "while True: pass", "--timeout", "1", "--data", `${data[1]}-3`]),
    ]);
    expect([file.code, file.stdout.toString()]).toEqual([0, "LINE\nTrue\n"]);
    expect(file.stderr).toContain("err\n");
    expect(existsSync("/tmp/left")).toBe(false);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/^Traceback[^]*<cell 1>", line 1, in f[^]*ZeroDivisionError/m);
    expect([late.code, late.stderr]).toEqual([124, expect.stringContaining("the code was ended after 1")]);
  },
);

verifies("cli/repl", "typed lines run in one interpreter, blocks up to an empty line, and errors do not end it", async () => {
  using place = scratch();
  const { data } = place;
  const input = "x = 5\ndef f(a):\n  return a * x\n\nf(4)\n1 / 0\n(1 +\n2)\nprint('end')\n";
  const { code, stdout, stderr } = await run(["repl", ...data], { input });
  expect([code, stdout.toString()]).toEqual([0, "20\n3\nend\n"]);
  expect(stderr).toMatch(/ZeroDivisionError/);
});
