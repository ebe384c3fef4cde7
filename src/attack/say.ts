// Small steps that stories share: run a program of src/attack/programs inside or outside and demand an answer.

import { strict as assert } from "node:assert";
import type { ExecResult, Sandbox } from "../api/sandbox.ts";
import type { Bed } from "./row.ts";

const text = new TextDecoder();

/** stdout of a command inside, without the last newline. The exit code must be 0 unless `anyExit`. */
export async function inside(
  sandbox: Sandbox,
  command: readonly string[] | string,
  options: { anyExit?: boolean; timeoutMs?: number } = {},
): Promise<string> {
  const result = await sandbox.exec({ command, timeoutMs: options.timeoutMs ?? 30_000 });
  if (options.anyExit !== true) assert.equal(result.exitCode, 0, `inside ${String(command)}: ${text.decode(result.stderr)}`);
  return text.decode(result.stdout).replace(/\n$/, "");
}

/** Path of an attempt program inside a sandbox that `bed.open()` made without a directory of its own. */
export const attempt = (name: string): string => `/workspace/.attempts/${name}`;

/** stdout of a command outside. */
export async function outside(bed: Bed, argv: readonly string[], options: { asUser?: boolean } = {}): Promise<string> {
  return (await bed.outside(argv, options)).stdout.replace(/\n$/, "");
}

/** Demands that the sandbox still answers. */
export async function stillAnswers(sandbox: Sandbox): Promise<void> {
  assert.equal(await inside(sandbox, ["/bin/echo", "alive"], { timeoutMs: 10_000 }), "alive", "the sandbox no longer answers");
}

export const stdout = (result: ExecResult): string => text.decode(result.stdout);
