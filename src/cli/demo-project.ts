// The project that `corral demo` works on: a copy of examples/first-run in a directory of its own, with a git history.
// Not the demo's story. Invariant: the example itself is only read; the copy goes when the demo ends, however it ends.

import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Corral } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { EXIT_SIGNAL } from "./exit-codes.ts";

const EXAMPLE = join(import.meta.dirname, "../../examples/first-run");

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** What the demo must find unharmed. */
export const SECRETS: readonly string[] = [".env", "secrets/payment-token.txt", "deploy.pem"];

export interface Project extends Disposable {
  readonly dir: string;
}

export function copyProject(): Project {
  const parent = mkdtempSync(join(realpathSync(tmpdir()), "corral-demo-"));
  const dir = join(parent, "fair-share");
  cpSync(EXAMPLE, dir, { recursive: true });
  const remove = (): void => rmSync(parent, { recursive: true, force: true });
  // SAFETY: leaving at once is sound only because the spawner ends every sandbox of ours when its socket closes.
  const onSignal = (_: NodeJS.Signals, number: number): void => {
    remove();
    process.exit(EXIT_SIGNAL + number);
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    dir,
    [Symbol.dispose]() {
      for (const name of SIGNALS) process.off(name, onSignal);
      remove();
    },
  };
}

// The history is made in a sandbox too: `--template=` keeps the host's hooks out, and no identity of the person is used.
const GIT = `git init -q --template= -b main . &&
git config user.name demo && git config user.email demo@example.invalid &&
git add README.md package.json src/money.js test/money.test.js && git commit -q -m 'Format and read amounts' &&
git add . && git commit -q -m 'Split a bill'`;

/** Gives the copy a git history. False where there is no git. */
export async function makeHistory(corral: Corral, dir: string): Promise<boolean> {
  const policy = await corral.policies.load("full-access");
  const sandbox = await corral.create({ codebaseDir: dir, policy, delta: "keep" });
  const { exitCode, stderr } = await sandbox.exec({ command: GIT, timeoutMs: 20_000 });
  await sandbox.destroy();
  if (exitCode === 0) await corral.deltas.commit(sandbox.id, { acceptFlagged: true });
  await corral.deltas.discard(sandbox.id).catch(() => undefined); // a commit may have taken it along
  if (exitCode !== 0 && exitCode !== 127)
    throw new CorralError("exec_failed", `git could not make a history: ${Buffer.from(stderr).toString("utf8").trim()}`);
  return exitCode === 0;
}

/** One hash over names and contents below `dir`, `.git` included: equal before and after means that nothing reached it. */
export function fingerprint(dir: string): string {
  const hash = createHash("sha256");
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true }).sort((a, b) => compare(path(a), path(b)))) {
    hash.update(`${path(entry)}\0`);
    if (entry.isFile()) hash.update(readFileSync(path(entry)));
  }
  return hash.digest("hex");
}

function path(entry: { readonly parentPath: string; readonly name: string }): string {
  return join(entry.parentPath, entry.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : 1;
}

export function secretsOf(dir: string): readonly string[] {
  return SECRETS.map((name) => readFileSync(join(dir, name), "utf8"));
}
