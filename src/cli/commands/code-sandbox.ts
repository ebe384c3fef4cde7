// The sandbox that `corral py` and `corral repl` run code in: of this machine, over a directory or none, gone at the end with all it wrote.

import type { Corral } from "../../api/corral.ts";
import type { Sandbox } from "../../api/sandbox.ts";
import type { CliHost } from "../host.ts";
import { parseSize } from "../units.ts";

export interface CodeSandboxOptions {
  readonly dir?: string;
  readonly policy?: string;
  readonly memory?: string;
  readonly data?: string;
}

export interface CodeSandbox extends AsyncDisposable {
  readonly sandbox: Sandbox;
}

export async function openCodeSandbox({ dir, policy, memory, data }: CodeSandboxOptions, host: CliHost): Promise<CodeSandbox> {
  await using opened = new AsyncDisposableStack();
  const corral: Corral = opened.use(await host.open(data === undefined ? {} : { dataDir: data }));
  const sandbox = opened.use(
    await corral.create({
      policy: await corral.policies.load(policy ?? (dir === undefined ? "full-access" : "agent-safe")),
      ...(dir === undefined ? {} : { codebaseDir: dir }),
      ...(memory === undefined ? {} : { limits: { memoryBytes: parseSize(memory, "--memory") } }),
    }),
  );
  const all = opened.move();
  return { sandbox, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
