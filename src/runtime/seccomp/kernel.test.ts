import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { CLONE3_PLACEHOLDERS, filterArch, rowsByNumber, seccompProgram } from "./filter.ts";
import { SYSCALL_NUMBERS } from "./numbers.ts";
import { ERRNO } from "./table.ts";

// The running kernel is asked, through a small C program compiled here: a BPF interpreter of our own could share our mistakes.

const SIGSYS = 31;
const UNPRIVILEGED = 65534;
const fixture = new URL("../../../test/fixtures/seccomp/ask.c", import.meta.url).pathname;
const arch = filterArch();

describe.skipIf(arch === undefined)("the filter in the running kernel", () => {
  let dir = "";
  const number = (name: string): number => SYSCALL_NUMBERS[arch ?? "x64"].get(name) ?? -1;
  const line = (n: number, ...args: bigint[]): string => [n.toString(16), ...args.map((value) => value.toString(16))].join(" ");

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "corral-seccomp-"));
    chmodSync(dir, 0o755);
    execFileSync("cc", ["-O1", "-static", "-o", join(dir, "ask"), fixture]);
    writeFileSync(join(dir, "plain.bpf"), seccompProgram({ arch: arch ?? "x64", pid1Clone3: false }));
    writeFileSync(join(dir, "pid1.bpf"), seccompProgram({ arch: arch ?? "x64", pid1Clone3: true }));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  /** What the kernel answers to each line; without `program` nothing is installed. */
  const ask = (lines: readonly string[], program?: "plain" | "pid1"): string[] => {
    const as = process.getuid?.() === 0 ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
    const out = execFileSync(join(dir, "ask"), program === undefined ? [] : [join(dir, `${program}.bpf`)], {
      ...as,
      input: `${lines.join("\n")}\n`,
      encoding: "latin1",
      env: {},
    });
    return out.trimEnd().split("\n");
  };

  verifies("runtime/seccomp-table", "every call that the table refuses outright is refused by the kernel with that errno", () => {
    const refused = [...rowsByNumber(arch ?? "x64")].filter(([, row]) => row.answer !== "allow" && row.clauses === undefined);
    const answers = ask(
      refused.map(([n]) => line(n)),
      "plain",
    );
    const want = refused.map(([, row]) => `errno ${row.answer === "allow" ? 0 : ERRNO[row.answer]}`);
    expect(refused.length).toBeGreaterThan(80);
    expect(answers).toEqual(want);
  });

  it("refuses numbers that no table knows", () => {
    expect(
      ask(
        [999, 0x40000000 + 39, 0x7fffffff].map((n) => line(n)),
        "plain",
      ),
    ).toEqual(Array(3).fill(`errno ${ERRNO.ENOSYS}`));
  });

  it("kills a process that enters by the 32-bit door", (context) => {
    if (arch !== "x64") return context.skip("int 0x80 is a door of x86-64");
    const [without] = ask(["int80 14"]);
    expect(["ok", "signal 11"]).toContain(without);
    expect(ask(["int80 14"], "plain")).toEqual([`signal ${SIGSYS}`]);
  });

  verifies(
    "runtime/seccomp-sockets",
    "sockets are those of unix, TCP and UDP, and route netlink; the rest is refused as if the kernel lacked it",
    () => {
      const socket = (family: bigint, type: bigint, protocol: bigint): string => line(number("socket"), family, type, protocol);
      const cases: readonly [string, string][] = [
        [socket(1n, 1n, 0n), "ok"],
        [socket(2n, 0x80801n, 0n), "ok"],
        [socket(2n, 2n, 17n), "ok"],
        [socket(10n, 1n, 6n), "ok"],
        [socket(16n, 3n, 0n), "ok"],
        [socket(16n, 3n, 12n), `errno ${ERRNO.EPROTONOSUPPORT}`],
        [socket(2n, 2n, 1n), `errno ${ERRNO.EPROTONOSUPPORT}`],
        [socket(2n, 1n, 262n), `errno ${ERRNO.EPROTONOSUPPORT}`],
        [socket(2n, 2n, 136n), `errno ${ERRNO.EPROTONOSUPPORT}`],
        [socket(2n, 5n, 0n), `errno ${ERRNO.ESOCKTNOSUPPORT}`],
        [socket(2n, 3n, 0n), `errno ${ERRNO.EPERM}`],
        [socket(40n, 1n, 0n), `errno ${ERRNO.EAFNOSUPPORT}`],
        [socket(38n, 5n, 0n), `errno ${ERRNO.EAFNOSUPPORT}`],
        [socket(17n, 3n, 0n), `errno ${ERRNO.EAFNOSUPPORT}`],
        [socket(0xffff_ffff_0000_0001n, 1n, 0n), "ok"],
      ];
      expect(
        ask(
          cases.map(([asked]) => asked),
          "plain",
        ),
      ).toEqual(cases.map(([, want]) => want));
    },
  );

  it("refuses typing into a terminal, also with high bits set in the command", () => {
    const ioctl = (command: bigint): string => line(number("ioctl"), 0n, command, 0n);
    const answers = ask([ioctl(0x5412n), ioctl(0xdead_0000_5412n), ioctl(0x541cn), ioctl(0x541dn), ioctl(0x5423n)], "plain");
    expect(answers).toEqual(Array(5).fill(`errno ${ERRNO.EPERM}`));
    expect(ask([ioctl(0x5401n)], "plain")).not.toEqual([`errno ${ERRNO.EPERM}`]);
  });

  it("refuses namespaces by clone, weaker personalities and a forged command line", () => {
    const eperm = `errno ${ERRNO.EPERM}`;
    expect(ask([line(number("clone"), 0x10000011n)], "plain")).toEqual([eperm]);
    expect(ask([line(number("personality"), 0x40000n)], "plain")).toEqual([eperm]);
    expect(ask([line(number("personality"), 0xffffffffn), line(number("personality"), 8n)], "plain")).toEqual(["ok", "ok"]);
    expect(ask([line(number("prctl"), 35n), line(number("prctl"), 38n)], "plain")).toEqual([eperm, `errno 22`]);
  });

  it("lets clone3 through with the secret words alone", () => {
    const words = [0, 1, 2, 3].map((n) => (BigInt(CLONE3_PLACEHOLDERS[n * 2 + 1] ?? 0) << 32n) | BigInt(CLONE3_PLACEHOLDERS[n * 2] ?? 0));
    const enosys = `errno ${ERRNO.ENOSYS}`;
    const [right, wrong] = ask([line(number("clone3"), 0n, 0n, ...words), line(number("clone3"), 0n, 0n, ...words.toReversed())], "pid1");
    // Size 0 of the arguments: the kernel itself answers EINVAL, so the filter let the call through.
    expect([right, wrong]).toEqual(["errno 22", enosys]);
    expect(ask([line(number("clone3"), 0n, 0n, ...words)], "plain")).toEqual([enosys]);
  });
});
