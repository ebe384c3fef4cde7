// A Corral server for benches over HTTP: a process of its own, as users have it, so that client and server share no event loop.
// Invariant: it ends, with its sandboxes, when it is disposed of.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Corral } from "../src/sdk/corral.ts";
import type { BenchContext } from "./bench.ts";

export interface BenchServer extends AsyncDisposable {
  readonly client: Corral;
  readonly url: string;
  readonly key: string;
  readonly pid: number;
}

/** A bench asks as often as it can. */
const UNLIMITED = ["--set", "rateLimits.perToken.requests=100000000"];

export async function benchServer({ corralArgv, scratch }: BenchContext): Promise<BenchServer> {
  const [program = "", ...words] = corralArgv;
  // Its own: the key of a data directory is told once.
  const dir = mkdtempSync(join(scratch, "server-"));
  const args = [...words, "serve", "--port", "0", "--json", "--data", join(dir, "data"), ...UNLIMITED];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", openSync(join(dir, "log"), "w")] });
  const exited = once(child, "exit");
  if (child.stdout === null) throw new Error("the server has no stdout");
  const lines = createInterface({ input: child.stdout });
  const [line] = (await Promise.race([once(lines, "line"), exited.then(() => Promise.reject(new Error("the server did not start")))])) as [
    string,
  ];
  const { url, key, pid } = JSON.parse(line) as { url: string; key: string; pid: number };
  return {
    client: new Corral({ url, key }),
    url,
    key,
    pid,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await exited;
    },
  };
}
