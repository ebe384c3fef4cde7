// Classic BPF as seccomp takes it: instructions, their encoding, and jumps that cannot be wrong because code is only ever appended.
// Knows no system call. Invariant: a block ends in a return on every path, so blocks can be laid one after another.

export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** Opcodes of linux/bpf_common.h that the filter uses; the kernel's `seccomp_check_filter` accepts each of them. */
export const OP = {
  loadWord: 0x20,
  and: 0x54,
  xor: 0xa4,
  orX: 0x4c,
  toX: 0x07,
  jump: 0x05,
  jumpEqual: 0x15,
  jumpGreaterOrEqual: 0x35,
  return: 0x06,
} as const;

/** Most instructions that the kernel takes (BPF_MAXINSNS). */
export const MAX_INSTRUCTIONS = 4096;
const MAX_OFFSET = 255;

export function statement(code: number, k: number): Instruction {
  return { code, jt: 0, jf: 0, k: k >>> 0 };
}

/** Runs `met` when A compares so to `k`, else `unmet`. Both blocks must end in returns. */
export function branch(code: number, k: number, met: readonly Instruction[], unmet: readonly Instruction[]): Instruction[] {
  // A conditional jump reaches 255 instructions, an unconditional one any distance.
  if (unmet.length <= MAX_OFFSET) return [{ code, jt: unmet.length, jf: 0, k: k >>> 0 }, ...unmet, ...met];
  return [{ code, jt: 0, jf: 1, k: k >>> 0 }, statement(OP.jump, unmet.length), ...unmet, ...met];
}

/** `met` when A equals one of `values`, else falls through to what is appended behind. */
export function ifAnyOf(values: readonly number[], met: readonly Instruction[]): Instruction[] {
  if (values.length + met.length > MAX_OFFSET) throw new RangeError("a block of one rule must stay within a short jump");
  const out: Instruction[] = [];
  for (const [index, value] of values.entries()) {
    const last = index === values.length - 1;
    out.push({ code: OP.jumpEqual, jt: values.length - 1 - index, jf: last ? met.length : 0, k: value >>> 0 });
  }
  return [...out, ...met];
}

/** `met` when A equals none of `values`, else falls through. */
export function ifNoneOf(values: readonly number[], met: readonly Instruction[]): Instruction[] {
  if (values.length + met.length > MAX_OFFSET) throw new RangeError("a block of one rule must stay within a short jump");
  const out = values.map((value, index) => ({
    code: OP.jumpEqual,
    jt: values.length - 1 - index + met.length,
    jf: 0,
    k: value >>> 0,
  }));
  return [...out, ...met];
}

/** `struct sock_filter` array: u16 code, u8 jt, u8 jf, u32 k, little-endian (both architectures are). */
export function encode(program: readonly Instruction[]): Buffer {
  if (program.length > MAX_INSTRUCTIONS) throw new RangeError(`filter of ${program.length} instructions exceeds ${MAX_INSTRUCTIONS}`);
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, { code, jt, jf, k }] of program.entries()) {
    if (jt > MAX_OFFSET || jf > MAX_OFFSET) throw new RangeError(`jump of instruction ${index} is too far`);
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jt, index * 8 + 2);
    bytes.writeUInt8(jf, index * 8 + 3);
    bytes.writeUInt32LE(k, index * 8 + 4);
  }
  return bytes;
}
