// `corral run` on a terminal: the pty that the program gets, the question afterwards, the review. The terminal is that of `script`.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { verifies } from "../verifies.ts";
import { type Scratch, scratch, startOnTerminal } from "./command-line.ts";

// Each test starts several programs; a machine that runs other tests beside them takes its time.
vi.setConfig({ testTimeout: 120_000 });

let place: Scratch;
beforeEach(() => {
  place = scratch();
});
afterEach(() => place[Symbol.dispose]());

verifies("cli/pty", "on a terminal the program gets a pty of the sandbox, and the terminal's modes come back", async () => {
  const dir = place.codebase({ a: "" });
  const { ended } = startOnTerminal([
    "run",
    dir,
    ...place.data,
    "--",
    "sh",
    "-c",
    "test -t 0 && test -t 1 && test -t 2 && tty; stty size; printf '\\033[?1049h\\033[?25l\\033]52;c;ZXZpbA==\\007'",
  ]);
  const { code, stdout } = await ended;
  const text = stdout.toString();
  expect(code).toBe(0);
  expect(text).toContain("/dev/pts/0");
  expect(text).toContain("40 120");
  expect(text).not.toContain("]52;");
  expect(text).toContain("\x1b[?1049l");
  expect(text).toContain("\x1b[?25h");
});

verifies("cli/ask", "on a terminal a person accepts what is shown, and only then it is in the codebase", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = startOnTerminal(["run", dir, ...place.data, "--", "sh", "-c", "echo hi > output/new"]);
  await said("What becomes of these changes?");
  expect(existsSync(join(dir, "output"))).toBe(false);
  child.stdin?.write("\r");
  const { code, stdout } = await ended;
  expect([code, stdout.toString()]).toEqual([0, expect.stringContaining("accepted 1 change")]);
  expect(readFileSync(join(dir, "output", "new"), "utf8")).toBe("hi\n");
});

it("leaving the prompt with Ctrl-C accepts nothing and keeps the changes", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = startOnTerminal(["run", dir, ...place.data, "--", "sh", "-c", "echo hi > output/new"]);
  await said("What becomes of these changes?");
  child.stdin?.write("\x03");
  const { code, stdout } = await ended;
  expect([code, stdout.toString()]).toEqual([130, expect.stringMatching(/corral diff sb/)]);
  expect(existsSync(join(dir, "output"))).toBe(false);
});

it("a review takes some files and leaves others", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = startOnTerminal([
    "run",
    dir,
    ...place.data,
    "--",
    "sh",
    "-c",
    "echo one > output/one; echo two > output/two",
  ]);
  await said("What becomes of these changes?");
  child.stdin?.write("\x1b[B\r"); // review
  // The prompt, not the diff before it: what is typed between the two is nobody's.
  await said("Leave it out", "+one");
  child.stdin?.write("\r"); // accept this one
  await said("Leave it out", "+two");
  child.stdin?.write("\x1b[B\r"); // leave it out
  await said("Accept 1 of 2");
  child.stdin?.write("\r");
  const { code, stdout } = await ended;
  expect([code, stdout.toString()]).toEqual([0, expect.stringContaining("accepted 1 change")]);
  expect([existsSync(join(dir, "output", "one")), existsSync(join(dir, "output", "two"))]).toEqual([true, false]);
});
