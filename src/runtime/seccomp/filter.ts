// Compiles table.ts to the seccomp program of one architecture. PID 1 installs it once, last of all; every process inherits it.
// Decides nothing: each answer stands in the table. Invariant: for every number and argument the program answers what the table says.
//
// clone3 is refused because its flags cannot be read. PID 1 itself needs it, to start a command inside the command's own cgroup. So, with
// `pid1Clone3`, the call passes when its four unused argument registers (args[2..5]) hold eight secret words. The program carries
// placeholders; PID 1 overwrites them with fresh random words before it installs its copy. Nobody else can know them: 256 bits, never
// written anywhere, PID 1 cannot be read (non-dumpable, ptrace and process_vm_readv refused, a filter can be dumped only by a tracer with
// CAP_SYS_ADMIN outside), a child's memory is replaced by exec. All eight are compared before the one branch, so time tells nothing.
// What a leak would give: namespaces of one's own (kernel surface, as without this row), no way out of the sandbox's mounts, ids or limits.

import { branch, encode, type Instruction, ifAnyOf, ifNoneOf, OP, statement } from "./bpf.ts";
import { AUDIT_ARCH, type Arch, SYSCALL_NUMBERS } from "./numbers.ts";
import { type Answer, type Clause, ERRNO, ROWS, type Row } from "./table.ts";

export interface FilterOptions {
  readonly arch: Arch;
  /** Adds the secret way through clone3; the program must then not be installed with the placeholders in it. */
  readonly pid1Clone3: boolean;
}

/** What PID 1 replaces: args[2] low, args[2] high, args[3] low and so on. Appear once each, as `k` of an XOR. */
export const CLONE3_PLACEHOLDERS: readonly number[] = [
  0x5ec0de01, 0x5ec0de02, 0x5ec0de03, 0x5ec0de04, 0x5ec0de05, 0x5ec0de06, 0x5ec0de07, 0x5ec0de08,
];

const RETURN_ALLOW = 0x7fff0000;
const RETURN_ERRNO = 0x00050000;
/** Ends the whole process with SIGSYS, which no handler catches. */
const RETURN_KILL_PROCESS = 0x80000000;

/** Offsets in `struct seccomp_data`. */
const DATA_NUMBER = 0;
const DATA_ARCH = 4;
const DATA_ARGS = 16;

/** Asked so often, and never from the kernel's cache of always-allowed calls, that they are looked at before the search. */
const FREQUENT = ["ioctl", "clone", "prctl", "socket"];

/** The program as the kernel takes it. */
export function seccompProgram(options: FilterOptions): Buffer {
  return encode(compileFilter(options));
}

/** Architecture of this Node.js process, or undefined where Corral has no filter. */
export function filterArch(arch: string = process.arch): Arch | undefined {
  return arch === "x64" || arch === "arm64" ? arch : undefined;
}

export function compileFilter(options: FilterOptions): Instruction[] {
  const rows = rowsByNumber(options.arch);
  const search = searchTree(ranges(rows, options), 0, Number.POSITIVE_INFINITY);
  let body = search;
  for (const name of FREQUENT.toReversed()) {
    const number = SYSCALL_NUMBERS[options.arch].get(name);
    const row = number === undefined ? undefined : rows.get(number);
    if (number === undefined || row === undefined) throw new Error(`the table has no row for ${name}`);
    body = [...ifAnyOf([number], rowBlock(row, options)), ...body];
  }
  // SAFETY: numbers mean other calls under another ABI (int 0x80 on x86-64, 32-bit programs on arm64): without this a denied call
  // is one instruction away. x32 numbers carry bit 30 and fall into the last range of the search: ENOSYS.
  return [
    statement(OP.loadWord, DATA_ARCH),
    ...ifNoneOf([AUDIT_ARCH[options.arch]], [statement(OP.return, RETURN_KILL_PROCESS)]),
    statement(OP.loadWord, DATA_NUMBER),
    ...body,
  ];
}

/** The row of every number that has one; throws when the table names a call twice or not at all. */
export function rowsByNumber(arch: Arch): ReadonlyMap<number, Row> {
  const byName = new Map<string, Row>();
  for (const row of ROWS) {
    for (const name of row.calls.trim().split(/\s+/)) {
      if (byName.has(name)) throw new Error(`${name} stands in two rows of the table`);
      byName.set(name, row);
    }
  }
  const byNumber = new Map<number, Row>();
  for (const [name, number] of SYSCALL_NUMBERS[arch]) {
    const row = byName.get(name);
    if (row === undefined) throw new Error(`${name} stands in no row of the table`);
    byNumber.set(number, row);
  }
  return byNumber;
}

interface Range {
  readonly from: number;
  readonly block: readonly Instruction[];
}

/** Neighbouring numbers with the same answer become one range; the last reaches to the end of all numbers. */
function ranges(rows: ReadonlyMap<number, Row>, options: FilterOptions): Range[] {
  const highest = Math.max(...rows.keys());
  const out: Range[] = [];
  let previous = "";
  for (let number = 0; number <= highest + 1; number += 1) {
    const block = rowBlock(rows.get(number), options);
    const key = JSON.stringify(block);
    if (key !== previous) out.push({ from: number, block });
    previous = key;
  }
  return out;
}

/** Binary search: A holds the number at entry and still does at every comparison. */
function searchTree(list: readonly Range[], low: number, high: number): Instruction[] {
  const last = Math.min(high, list.length);
  const only = list[low];
  if (only === undefined) throw new Error("the search is empty");
  if (last - low === 1) return [...only.block];
  const middle = low + Math.ceil((last - low) / 2);
  const split = list[middle];
  if (split === undefined) throw new Error("the search has no middle");
  return branch(OP.jumpGreaterOrEqual, split.from, searchTree(list, middle, last), searchTree(list, low, middle));
}

function rowBlock(row: Row | undefined, options: FilterOptions): Instruction[] {
  // SAFETY: a number without a row is a call that nobody judged: newer than the table, or no call at all.
  if (row === undefined) return [returnOf("ENOSYS")];
  const secret = row.secret === true && options.pid1Clone3 ? secretBlock() : [];
  return [...secret, ...(row.clauses ?? []).flatMap(clauseBlock), returnOf(row.answer)];
}

function returnOf(answer: Answer): Instruction {
  return statement(OP.return, answer === "allow" ? RETURN_ALLOW : RETURN_ERRNO | ERRNO[answer]);
}

/** All tests of a clause met: its answer; else falls through to the next. */
function clauseBlock(clause: Clause): Instruction[] {
  let block: Instruction[] = [returnOf(clause.answer)];
  for (const test of clause.when.toReversed()) {
    const load = [statement(OP.loadWord, argument(test.arg, "low"))];
    if (test.mask !== undefined) load.push(statement(OP.and, test.mask));
    block = [...load, ...(test.is === "in" ? ifAnyOf(test.values, block) : ifNoneOf(test.values, block))];
  }
  return block;
}

/** X gathers every differing bit of the eight words; equal to all of them only when it stays zero. */
function secretBlock(): Instruction[] {
  const out: Instruction[] = [];
  for (const [index, word] of CLONE3_PLACEHOLDERS.entries()) {
    const half = index % 2 === 0 ? "low" : "high";
    out.push(statement(OP.loadWord, argument(2 + Math.floor(index / 2), half)), statement(OP.xor, word));
    if (index > 0) out.push(statement(OP.orX, 0));
    out.push(statement(OP.toX, 0));
  }
  return [...out, ...ifAnyOf([0], [returnOf("allow")])];
}

/** Both architectures are little-endian: the low half lies first. */
function argument(index: number, half: "low" | "high"): number {
  return DATA_ARGS + index * 8 + (half === "high" ? 4 : 0);
}
