import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { seccompProgram } from "./filter.ts";
import { SYSCALL_NUMBERS } from "./numbers.ts";

// What can be shown of arm64 on another machine: the numbers against the real arm64 headers, and that the cross-built guest runs.
// qemu's user emulation has no seccomp, so the filter itself is proved by the BPF interpreter (filter.test.ts) and not here.

const COMPILER = "aarch64-linux-gnu-gcc";
const EMULATOR = "qemu-aarch64-static";
const GUEST = join(import.meta.dirname, "../../../guest");
const ASK = join(import.meta.dirname, "../../../test/fixtures/seccomp/ask.c");
const BUILD_MS = 120_000;

function isInstalled(program: string): boolean {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
}

const missing = [COMPILER, EMULATOR].filter((program) => !isInstalled(program));
/** The packages that bring them, for who reads the skip. */
const REASON = `${missing.join(" and ")} not installed (gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static)`;

function needsTools(context: TestContext): boolean {
  if (missing.length > 0) context.skip(REASON);
  return missing.length === 0;
}

/** Built anew only when a source is newer: the cross build takes a while. */
function crossBuilt(): string {
  const program = join(GUEST, "build/corral-guest-arm64");
  const sources = readdirSync(GUEST).filter((name) => /\.(?:c|h|sh)$/.test(name));
  const newest = Math.max(...sources.map((name) => statSync(join(GUEST, name)).mtimeMs));
  if ((statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0) <= newest)
    execFileSync(join(GUEST, "make.sh"), ["--arm64"], { stdio: "pipe" });
  return program;
}

describe("the guest and its filter on arm64", () => {
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "corral-arm64-"));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it("has the numbers that the arm64 headers have", (context) => {
    if (!needsTools(context)) return;
    const text = execFileSync(COMPILER, ["-E", "-dM", "-"], { input: "#include <asm/unistd.h>\n", encoding: "latin1" });
    const macros = new Map([...text.matchAll(/^#define (__NR\w*) (\S+)$/gm)].map((match) => [match[1] ?? "", match[2] ?? ""]));
    let compared = 0;
    for (const [macro, first] of macros) {
      let value = first;
      while (macros.has(value)) value = macros.get(value) ?? "";
      const name = macro.slice("__NR_".length);
      if (!macro.startsWith("__NR_") || !/^\d+$/.test(value) || ["syscalls", "arch_specific_syscall"].includes(name)) continue;
      expect({ name, number: SYSCALL_NUMBERS.arm64.get(name) }).toEqual({ name, number: Number(value) });
      compared += 1;
    }
    expect(compared).toBeGreaterThan(280);
  });

  verifies(
    "runtime/arm64-guest",
    "the guest builds for arm64 and its tools give the same bytes there",
    (context) => {
      if (!needsTools(context)) return;
      const guest = join(dir, "guest");
      copyFileSync(crossBuilt(), guest);
      const version = execFileSync(EMULATOR, [guest, "version"], { encoding: "utf8" });
      expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
      const here = join(GUEST, "build/corral-guest");
      if (process.arch !== "x64" || !existsSync(here)) return;
      const walk = ["tool", "walk", join(ASK, "..")];
      expect(
        execFileSync(EMULATOR, [guest, ...walk], { maxBuffer: 1 << 26 }).equals(execFileSync(here, walk, { maxBuffer: 1 << 26 })),
      ).toBe(true);
    },
    BUILD_MS,
  );

  it("cannot install a filter under qemu, which is why the interpreter proves it", (context) => {
    if (!needsTools(context)) return;
    const ask = join(dir, "ask");
    execFileSync(COMPILER, ["-O1", "-static", "-o", ask, ASK]);
    writeFileSync(join(dir, "filter"), seccompProgram({ arch: "arm64", pid1Clone3: false }));
    const getpid = `${(SYSCALL_NUMBERS.arm64.get("getpid") ?? 0).toString(16)}\n`;
    const unfiltered = spawnSync(EMULATOR, [ask], { input: getpid, encoding: "utf8" });
    expect(unfiltered.stdout).toBe("ok\n");
    // The day this fails, qemu emulates filters: then ask it what kernel.test.ts asks.
    expect(spawnSync(EMULATOR, [ask, join(dir, "filter")], { input: getpid, encoding: "utf8" }).stderr).toMatch(
      /seccomp: (Function not implemented|Invalid argument)/,
    );
  });
});
