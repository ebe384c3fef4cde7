import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { branch, MAX_INSTRUCTIONS, OP, statement } from "./bpf.ts";
import { CLONE3_PLACEHOLDERS, compileFilter, rowsByNumber, seccompProgram } from "./filter.ts";
import { type Call, interpret } from "./interpret.ts";
import { AUDIT_ARCH, type Arch, SYSCALL_NUMBERS } from "./numbers.ts";
import { type Answer, type ArgTest, ERRNO, ROWS } from "./table.ts";

const ARCHES: readonly Arch[] = ["x64", "arm64"];
const KILL_PROCESS = 0x80000000;
const NO_ARGS: readonly bigint[] = [0n, 0n, 0n, 0n, 0n, 0n];
const SECRET: readonly bigint[] = [0n, 1n, 2n, 3n].map((n) => {
  const low = CLONE3_PLACEHOLDERS[Number(n) * 2] ?? 0;
  const high = CLONE3_PLACEHOLDERS[Number(n) * 2 + 1] ?? 0;
  return (BigInt(high) << 32n) | BigInt(low);
});

function valueOf(answer: Answer): number {
  return answer === "allow" ? 0x7fff0000 : 0x00050000 | ERRNO[answer];
}

/** The table read word by word, without ranges, trees or jumps. */
function naive(arch: Arch, call: Call, pid1Clone3: boolean): number {
  if (call.arch !== AUDIT_ARCH[arch]) return KILL_PROCESS;
  const name = [...SYSCALL_NUMBERS[arch]].find(([, number]) => number === call.number)?.[0];
  const row = ROWS.find((candidate) => name !== undefined && candidate.calls.split(/\s+/).includes(name));
  if (row === undefined) return valueOf("ENOSYS");
  if (row.secret && pid1Clone3 && SECRET.every((word, index) => BigInt.asUintN(64, call.args[index + 2] ?? 0n) === word))
    return valueOf("allow");
  const met = (row.clauses ?? []).find((clause) => clause.when.every((test) => isMet(test, call)));
  return valueOf(met?.answer ?? row.answer);
}

function isMet(test: ArgTest, call: Call): boolean {
  const value = Number(BigInt.asUintN(32, call.args[test.arg] ?? 0n) & BigInt(test.mask ?? 0xffffffff));
  return test.values.includes(value) === (test.is === "in");
}

/** Numbers worth asking about: every known one, those around the gaps, x32, and the ends of the range. */
function numbers(): number[] {
  const low = Array.from({ length: 700 }, (_, index) => index);
  const x32 = low.filter((n) => n < 600).map((n) => 0x40000000 + n);
  return [...low, 999, 0x3fffffff, ...x32, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];
}

const SMALL = [
  0, 1, 2, 3, 4, 5, 6, 8, 10, 16, 17, 35, 38, 40, 44, 136, 262, 0x5412, 0x5413, 0x541c, 0x541d, 0x5423, 0x20000, 0x20008, 0x40000,
];
const FLAGS = [
  0x10000000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000, 0x01200011, 0x003d0f00, 0x80802, 0xffffffff, 0x7e020000,
];
const interesting = fc.constantFrom(...SMALL, ...FLAGS);
const argument = fc.oneof(
  { weight: 4, arbitrary: interesting.map(BigInt) },
  { weight: 2, arbitrary: fc.tuple(interesting, fc.nat(0xffffffff)).map(([low, high]) => (BigInt(high) << 32n) | BigInt(low)) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
);
const args = fc.oneof(
  { weight: 8, arbitrary: fc.array(argument, { minLength: 6, maxLength: 6 }) },
  { weight: 1, arbitrary: fc.tuple(argument, argument).map((two) => [...two, ...SECRET]) },
);

describe.each(ARCHES)("the filter for %s", (arch) => {
  const programs = [true, false].map((pid1Clone3) => ({ pid1Clone3, program: seccompProgram({ arch, pid1Clone3 }) }));
  const ask = (number: number, given: readonly bigint[] = NO_ARGS, program = programs[0]?.program ?? Buffer.alloc(0)): number =>
    interpret(program, { arch: AUDIT_ARCH[arch], number, args: given }).value;
  const number = (name: string): number => SYSCALL_NUMBERS[arch].get(name) ?? -1;

  it("answers every number without arguments as a naive reading of the table does", () => {
    for (const { program, pid1Clone3 } of programs) {
      for (const n of numbers()) {
        const call = { arch: AUDIT_ARCH[arch], number: n, args: NO_ARGS };
        expect({ n, value: interpret(program, call).value }).toEqual({ n, value: naive(arch, call, pid1Clone3) });
      }
    }
  });

  it("answers random numbers, architectures and arguments as a naive reading of the table does", () => {
    const known = fc.constantFrom("clone", "clone3", "socket", "socketpair", "ioctl", "personality", "prctl").map(number);
    const anyNumber = fc.oneof(
      { weight: 6, arbitrary: known },
      { weight: 2, arbitrary: fc.constantFrom(...numbers()) },
      fc.nat(0xffffffff),
    );
    const anyArch = fc.oneof(
      { weight: 12, arbitrary: fc.constant(AUDIT_ARCH[arch]) },
      { weight: 1, arbitrary: fc.constantFrom(0x40000003, 0x40000028, 0xc000003e, 0xc00000b7, 0) },
    );
    for (const { program, pid1Clone3 } of programs) {
      fc.assert(
        fc.property(anyArch, anyNumber, args, (callArch, n, given) => {
          const call = { arch: callArch, number: n, args: given };
          return interpret(program, call).value === naive(arch, call, pid1Clone3);
        }),
        { numRuns: 5000 },
      );
    }
  });

  verifies("runtime/seccomp-foreign-abi", "calls of another architecture kill the process, x32 numbers are unknown calls", () => {
    const program = programs[0]?.program ?? Buffer.alloc(0);
    for (const foreign of [0x40000003, 0x40000028, 0xc000003e, 0xc00000b7].filter((id) => id !== AUDIT_ARCH[arch])) {
      expect(interpret(program, { arch: foreign, number: number("getpid"), args: NO_ARGS }).value).toBe(KILL_PROCESS);
    }
    expect(ask(0x40000000 + number("getpid"))).toBe(valueOf("ENOSYS"));
    expect(ask(0x40000000 + 512)).toBe(valueOf("ENOSYS"));
  });

  it("lets PID 1 through clone3 only when every bit of the secret is right", () => {
    const full = [0n, 0n, ...SECRET];
    expect(ask(number("clone3"), full)).toBe(valueOf("allow"));
    for (let bit = 0n; bit < 256n; bit += 1n) {
      const wrong = full.map((word, index) => (index === 2 + Number(bit / 64n) ? word ^ (1n << (bit % 64n)) : word));
      expect(ask(number("clone3"), wrong)).toBe(valueOf("ENOSYS"));
    }
    expect(ask(number("clone3"), full, programs[1]?.program)).toBe(valueOf("ENOSYS"));
  });

  it("holds each placeholder exactly once, as the constant of an XOR", () => {
    for (const word of CLONE3_PLACEHOLDERS) {
      const holders = compileFilter({ arch, pid1Clone3: true }).filter((instruction) => instruction.k === word);
      expect(holders.map((instruction) => instruction.code)).toEqual([OP.xor]);
      expect(compileFilter({ arch, pid1Clone3: false }).some((instruction) => instruction.k === word)).toBe(false);
    }
  });

  it("reads 32 bits of an ioctl command and of clone's flags, as the kernel does", () => {
    const high = 0xdead_beef_0000_0000n;
    expect(ask(number("ioctl"), [0n, high | 0x5412n, 0n, 0n, 0n, 0n])).toBe(valueOf("EPERM"));
    expect(ask(number("ioctl"), [0n, high | 0x5401n, 0n, 0n, 0n, 0n])).toBe(valueOf("allow"));
    expect(ask(number("clone"), [high | 0x10000011n, 0n, 0n, 0n, 0n, 0n])).toBe(valueOf("EPERM"));
    expect(ask(number("clone"), [high | 0x01200011n, 0n, 0n, 0n, 0n, 0n])).toBe(valueOf("allow"));
  });

  it("answers a frequent call in few steps and fits the kernel's limit", () => {
    const program = programs[0]?.program ?? Buffer.alloc(0);
    expect(program.length / 8).toBeLessThanOrEqual(MAX_INSTRUCTIONS);
    const steps = (name: string): number =>
      interpret(program, { arch: AUDIT_ARCH[arch], number: number(name), args: [0n, 0x5401n, 0n, 0n, 0n, 0n] }).steps;
    expect(steps("ioctl")).toBeLessThanOrEqual(10);
    for (const name of ["read", "write", "openat", "close", "futex", "mmap", "execve"]) expect(steps(name)).toBeLessThanOrEqual(20);
  });

  it("has a row for every call that the installed kernel headers know", (context) => {
    const header = headerNumbers(arch);
    if (header === undefined) return context.skip("no kernel headers and no cc are installed");
    const highest = Math.max(...SYSCALL_NUMBERS[arch].values());
    for (const [name, n] of header) {
      // A header newer than the table: the rule for numbers without a row holds, which is a refusal.
      if (n > highest) expect(ask(n)).toBe(valueOf("ENOSYS"));
      else expect({ name, n: SYSCALL_NUMBERS[arch].get(name) }).toEqual({ name, n });
    }
    expect(header.size).toBeGreaterThan(300);
  });
});

describe("the table", () => {
  it("names no call that neither architecture knows, and gives every row a reason", () => {
    for (const row of ROWS) {
      expect(row.why.length).toBeGreaterThan(3);
      for (const name of row.calls.trim().split(/\s+/))
        expect({ name, known: ARCHES.some((arch) => SYSCALL_NUMBERS[arch].has(name)) }).toEqual({ name, known: true });
    }
  });

  it("puts every known call of both architectures into exactly one row", () => {
    for (const arch of ARCHES) expect(rowsByNumber(arch).size).toBe(SYSCALL_NUMBERS[arch].size);
    const names = ROWS.flatMap((row) => row.calls.trim().split(/\s+/));
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("a branch", () => {
  it("reaches blocks of any length with 8-bit offsets", () => {
    for (const length of [1, 254, 255, 256, 300, 1000]) {
      const unmet = [...Array.from({ length: length - 1 }, () => statement(OP.and, 0xffffffff)), statement(OP.return, 2)];
      const program = [statement(OP.loadWord, 0), ...branch(OP.jumpEqual, 7, [statement(OP.return, 1)], unmet)];
      const bytes = Buffer.concat(
        program.map(({ code, jt, jf, k }) => Buffer.from([code, 0, jt, jf, k & 255, (k >> 8) & 255, (k >> 16) & 255, k >>> 24])),
      );
      expect(interpret(bytes, { arch: 0, number: 7, args: NO_ARGS }).value).toBe(1);
      expect(interpret(bytes, { arch: 0, number: 8, args: NO_ARGS }).value).toBe(2);
    }
  });
});

function headerNumbers(arch: Arch): Map<string, number> | undefined {
  const wants = ["RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "TIME32_SYSCALLS", "SYS_CLONE3", "MEMFD_SECRET"].map(
    (name) => `-D__ARCH_WANT_${name}`,
  );
  const own = arch === process.arch;
  const source = own || arch === "x64" ? "#include <asm/unistd.h>\n" : "#include <asm/bitsperlong.h>\n#include <asm-generic/unistd.h>\n";
  if (arch === "x64" && !own) return undefined;
  let text: string;
  try {
    text = execFileSync("cc", ["-E", "-dM", ...(own ? [] : wants), "-"], {
      input: source,
      encoding: "latin1",
      stdio: ["pipe", "pipe", "ignore"],
    });
  } catch {
    return undefined;
  }
  const macros = new Map([...text.matchAll(/^#define (__NR\w*) (\S+)$/gm)].map((match) => [match[1] ?? "", match[2] ?? ""]));
  const out = new Map<string, number>();
  for (const [macro, first] of macros) {
    let value = first;
    while (macros.has(value)) value = macros.get(value) ?? "";
    if (macro.startsWith("__NR_") && /^\d+$/.test(value) && !/^(syscalls|arch_specific_syscall)$/.test(macro.slice(5)))
      out.set(macro.slice(5), Number(value));
  }
  return out;
}
