// The bwrap runtime: bubblewrap builds the root of a sandbox inside the ids, mounts, cgroup and network that our spawner made, and
// starts our guest as PID 1. Everything after that is the native runtime's: one protocol, one client, one suite.
// Invariant: bubblewrap that is missing or too old is told with the command that mends it; it is never started through a shell.

import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { promisify } from "node:util";
import { CorralError } from "../../api/errors.ts";
import { type NativeOptions, openNativeRuntime } from "../native/runtime.ts";
import type { Runtime, RuntimeProbe } from "../runtime.ts";
import { bwrapArgv } from "./argv.ts";

export interface BwrapOptions extends Omit<NativeOptions, "foreign"> {
  /** bubblewrap; absent: looked for where distributions put it. */
  readonly bwrap?: string;
}

/** `--clearenv`, `--as-pid-1`, `--die-with-parent`, `--cap-drop` together. */
const LEAST_VERSION = [0, 5, 0] as const;
const PLACES = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"];
const VERSION_TIMEOUT_MS = 10_000;
const INSTALL = "run: sudo apt-get install bubblewrap";

export interface Bwrap {
  readonly path: string;
  readonly version: string;
}

/** Bubblewrap on this machine; throws `runtime_unavailable` when there is none that fits. */
export async function findBwrap(path?: string): Promise<Bwrap> {
  const found = path ?? PLACES.find(isExecutable);
  if (found === undefined) throw new CorralError("runtime_unavailable", `bubblewrap is not installed; ${INSTALL}`);
  let text: string;
  try {
    const { stdout } = await promisify(execFile)(found, ["--version"], {
      env: {},
      cwd: "/",
      timeout: VERSION_TIMEOUT_MS,
      encoding: "utf8",
    });
    text = stdout;
  } catch (cause) {
    throw new CorralError("runtime_unavailable", `${found} could not be run: ${(cause as Error).message}; ${INSTALL}`, { cause });
  }
  const version = /(\d+)\.(\d+)\.(\d+)/.exec(text);
  if (version === null || isOlder(version.slice(1).map(Number), LEAST_VERSION)) {
    throw new CorralError("runtime_unavailable", `${found} is ${text.trim()}; ${LEAST_VERSION.join(".")} or newer is needed; ${INSTALL}`);
  }
  return { path: found, version: version[0] };
}

export async function openBwrapRuntime(options: BwrapOptions): Promise<Runtime> {
  const bwrap = await findBwrap(options.bwrap);
  return await openNativeRuntime({
    ...options,
    foreign: {
      name: "bwrap",
      argv: ({ hostname, mounts, weaken = [] }) => bwrapArgv({ bwrap: bwrap.path, hostname, mounts, weaken }),
      features: { bwrap: bwrap.version },
    },
  });
}

/** Starts what it needs to see whether it can; never throws for what the machine lacks. */
export async function probeBwrap(options: BwrapOptions): Promise<RuntimeProbe> {
  try {
    await using runtime = await openBwrapRuntime(options);
    return runtime.probe;
  } catch (error) {
    const mode = options.mode === "auto" ? (process.geteuid?.() === 0 ? "root" : "rootless") : options.mode;
    return {
      name: "bwrap",
      available: false,
      reason: error instanceof Error ? error.message : String(error),
      mode,
      weakenings: [],
      features: {},
    };
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isOlder(version: readonly number[], least: readonly number[]): boolean {
  for (const [index, part] of least.entries()) {
    const have = version[index] ?? 0;
    if (have !== part) return have < part;
  }
  return false;
}
