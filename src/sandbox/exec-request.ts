// Says what is wrong with the request for a command, naming the field. Pure.
// Invariant: what passes can be encoded for the guest without loss: no NUL, no empty argv, only whole numbers.

import { MAX_FRAME_BYTES } from "../api/limits.ts";
import type { ExecRequest } from "../api/sandbox.ts";

/** Longest time that fits the protocol's u32. */
const MAX_MS = 2 ** 32 - 1;
const MAX_STRINGS = 65_535;
/** What the fixed part of an EXEC frame takes, with room to spare. */
const EXEC_HEAD_BYTES = 64;

/** The first problem, or `undefined`. */
export function checkExec(request: ExecRequest): string | undefined {
  const { command, env = {}, cwd, timeoutMs, idleTimeoutMs, outputBytes, pty } = request;
  const argv = typeof command === "string" ? [command] : command;
  if (argv.length === 0 || argv[0] === "") return "command: expected a program and its arguments, or a line for the shell; got nothing";
  if (argv.some(hasNul)) return "command: an argument holds a NUL byte, which no program can be given";
  if (cwd !== undefined && (!cwd.startsWith("/") || hasNul(cwd)))
    return `cwd: expected an absolute path inside the sandbox, got ${JSON.stringify(cwd)}`;
  const entries = Object.entries(env);
  const bad = entries.find(([name, value]) => name === "" || name.includes("=") || hasNul(name) || hasNul(value));
  if (bad !== undefined) return `env: ${JSON.stringify(bad[0])} is no name of a variable, or its value holds a NUL byte`;
  if (argv.length > MAX_STRINGS || entries.length > MAX_STRINGS) return `command: more than ${MAX_STRINGS} arguments or variables`;
  const bytes = [...argv, cwd ?? "", ...entries.map(([name, value]) => `${name}=${value}`)].reduce(
    (sum, text) => sum + Buffer.byteLength(text) + 1,
    EXEC_HEAD_BYTES,
  );
  if (bytes > MAX_FRAME_BYTES)
    return `command: arguments and environment are ${bytes} bytes together, at most ${MAX_FRAME_BYTES} can be passed; use stdin or a file`;
  return (
    wholeMs("timeoutMs", timeoutMs) ??
    wholeMs("idleTimeoutMs", idleTimeoutMs) ??
    (outputBytes === undefined || outputBytes === Infinity || (Number.isSafeInteger(outputBytes) && outputBytes > 0)
      ? undefined
      : `outputBytes: expected a positive whole number or Infinity, got ${outputBytes}`) ??
    (pty === undefined || (isCells(pty.rows) && isCells(pty.cols))
      ? undefined
      : `pty: expected rows and cols from 1 to 65535, got ${pty.rows} and ${pty.cols}`)
  );
}

function wholeMs(name: string, value: number | undefined): string | undefined {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 1 && value <= MAX_MS)) return undefined;
  return `${name}: expected a whole number of milliseconds from 1 to ${MAX_MS}, got ${value}`;
}

function isCells(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1 && value <= 65_535;
}

function hasNul(text: string): boolean {
  return text.includes("\0");
}
