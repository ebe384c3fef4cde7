// A process of Node.js that may do little: no environment, no files but those named, no child, no way to new privileges. Knows nothing of
// what it runs. Invariant: it holds no descriptor of ours but its three pipes, and ends when its input ends or it is killed.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { realpathSync } from "node:fs";
import type { Readable, Writable } from "node:stream";

export interface ConfinedOptions {
  /** A .ts or .js file. */
  readonly program: string;
  readonly cwd: string;
  /** Directories that it may read, with all below. */
  readonly reads: readonly string[];
  /** Directories that it may read and change, with all below. */
  readonly writes: readonly string[];
}

export type ConfinedNode = ChildProcessByStdio<Writable, Readable, Readable>;

/** SAFETY: behind the ids of all sandboxes and of git, and nobody's: what it takes owns nothing else and can signal nobody. */
export const CONFINED_ID = 1_879_048_192 + 65_537;
/** Of what JavaScript keeps, MiB. */
const HEAP_MIB = 1_024;

export function startConfinedNode({ program, cwd, reads, writes }: ConfinedOptions): ConfinedNode {
  // SAFETY: as root it keeps what it needs to give up its ids itself, once its code is read, and nothing else; other rights it cannot get back.
  const isRoot = process.geteuid?.() === 0;
  const rights = isRoot ? ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all,+setuid,+setgid"] : [];
  // SAFETY: the second fence, around the code itself: no file, child, worker, addon or inspector that is not named here.
  const net = process.allowedNodeEnvironmentFlags.has("--allow-net") ? ["--allow-net"] : [];
  const real = (dir: string): string => `${realpathSync(dir)}/`;
  const files = [
    ...[...reads, ...writes].map((dir) => `--allow-fs-read=${real(dir)}`),
    ...writes.map((dir) => `--allow-fs-write=${real(dir)}`),
  ];
  const node = [
    "--permission",
    ...net,
    ...files,
    "--disable-warning=ExperimentalWarning",
    "--disable-proto=throw",
    `--max-old-space-size=${HEAP_MIB}`,
  ];
  const argv = ["--no-new-privs", ...rights, "--", "prlimit", "--core=0", "--", process.execPath, ...node, program];
  return spawn("setpriv", argv, { cwd, env: {}, stdio: ["pipe", "pipe", "pipe"] });
}
