// Runs a seccomp program on one call, as the kernel's interpreter would: the oracle's other half in tests. Never used by the product.
// It executes bytes, not our instruction objects, so the encoding is tested too. An instruction it does not know is an error.

export interface Call {
  readonly arch: number;
  readonly number: number;
  /** Six 64-bit arguments. */
  readonly args: readonly bigint[];
}

export interface Outcome {
  /** What the filter returned. */
  readonly value: number;
  /** Instructions executed. */
  readonly steps: number;
}

export function interpret(program: Buffer, call: Call): Outcome {
  const data = seccompData(call);
  let a = 0;
  let x = 0;
  let pc = 0;
  for (let steps = 1; steps <= 4096; steps += 1) {
    if ((pc + 1) * 8 > program.length) throw new Error(`jump out of the program to ${pc}`);
    const code = program.readUInt16LE(pc * 8);
    const jt = program.readUInt8(pc * 8 + 2);
    const jf = program.readUInt8(pc * 8 + 3);
    const k = program.readUInt32LE(pc * 8 + 4);
    pc += 1;
    switch (code) {
      case 0x20:
        if (k % 4 !== 0) throw new Error("unaligned load");
        a = data.readUInt32LE(k);
        break;
      case 0x54:
        a = (a & k) >>> 0;
        break;
      case 0xa4:
        a = (a ^ k) >>> 0;
        break;
      case 0x4c:
        a = (a | x) >>> 0;
        break;
      case 0x07:
        x = a;
        break;
      case 0x05:
        pc += k;
        break;
      case 0x15:
        pc += a === k ? jt : jf;
        break;
      case 0x35:
        pc += a >= k ? jt : jf;
        break;
      case 0x06:
        return { value: k, steps };
      default:
        throw new Error(`unknown instruction 0x${code.toString(16)} at ${pc - 1}`);
    }
  }
  throw new Error("the program does not end");
}

/** `struct seccomp_data`. */
function seccompData(call: Call): Buffer {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(call.number >>> 0, 0);
  data.writeUInt32LE(call.arch >>> 0, 4);
  for (const [index, value] of call.args.entries()) data.writeBigUInt64LE(BigInt.asUintN(64, value), 16 + index * 8);
  return data;
}
