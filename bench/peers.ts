// The floors and peers that our figures stand beside: plain programs of this machine, run the ordinary way.
// Invariant: a peer that cannot run here is named as missing; it is never replaced by an old figure.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";

/** Runs a program from Node.js to its exit and gives its exit code; output is dropped. */
export function runPeer(argv: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<number> {
  const [program, ...args] = argv;
  if (program === undefined) throw new Error("runPeer: empty argv");
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "ignore"], ...options });
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? -1));
  });
}

/** Argv of `bwrap` with every namespace unshared and a usable root, or undefined where bwrap is not installed. */
export function bwrapArgv(command: readonly string[]): readonly string[] | undefined {
  const bwrap = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"].find((path) => existsSync(path));
  if (bwrap === undefined) return undefined;
  const links = ["/bin", "/sbin", "/lib", "/lib64"].filter((path) => existsSync(path));
  return [
    bwrap,
    "--unshare-all",
    "--ro-bind",
    "/usr",
    "/usr",
    ...links.flatMap((path) => ["--symlink", `usr${path}`, path]),
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    ...command,
  ];
}
