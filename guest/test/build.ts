// Builds the guest and its test drivers once per change, for tests. Not the build itself: that is make.sh.
// Invariant: a program that a test starts is never older than its sources.

import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const GUEST = dirname(dirname(fileURLToPath(import.meta.url)));

function newest(folder: string): number {
  const names = readdirSync(folder).filter((name) => /\.[ch]$|\.sh$/.test(name));
  return Math.max(...names.map((name) => statSync(join(folder, name)).mtimeMs));
}

function isFresh(program: string, sources: number): boolean {
  const info = statSync(program, { throwIfNoEntry: false });
  return info !== undefined && info.mtimeMs > sources;
}

/** Path of the static program, or of the one with AddressSanitizer and UBSan. CORRAL_TEST_GUEST names another build to test instead. */
export function guestProgram(kind: "static" | "asan" = "static"): string {
  const other = process.env["CORRAL_TEST_GUEST"];
  if (other) return other;
  const program = join(GUEST, "build", kind === "asan" ? "corral-guest-asan" : "corral-guest");
  if (!isFresh(program, newest(GUEST))) execFileSync(join(GUEST, "make.sh"), kind === "asan" ? ["--asan"] : [], { stdio: "pipe" });
  return program;
}

/** Compiles test/`name`.c with the named sources of the guest; returns the program's path. */
export function testProgram(name: string, sources: readonly string[], flags: readonly string[] = []): string {
  const program = join(GUEST, "build", `test-${name}`);
  const files = [join(GUEST, "test", `${name}.c`), ...sources.map((source) => join(GUEST, source))];
  if (!isFresh(program, Math.max(newest(GUEST), newest(join(GUEST, "test"))))) {
    const part = `${program}.${process.pid}`;
    execFileSync("cc", [
      "-std=c11",
      "-g",
      "-O1",
      "-Wall",
      "-Wextra",
      "-Werror",
      `-I${GUEST}`,
      '-DGUEST_VERSION="test"',
      ...flags,
      ...files,
      "-o",
      part,
    ]);
    execFileSync("mv", [part, program]);
  }
  return program;
}

/** Path of test/fuzz-`harness`.c with libFuzzer; all of them are built when one is older than the guest. */
export function fuzzProgram(harness: string): string {
  const program = join(GUEST, "build", `fuzz-${harness}`);
  const sources = Math.max(newest(GUEST), newest(join(GUEST, "test")));
  if (!isFresh(program, sources)) execFileSync(join(GUEST, "make.sh"), ["--fuzz"], { stdio: "pipe" });
  return program;
}
