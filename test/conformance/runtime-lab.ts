// What the conformance suite of runtimes stands on: a runtime with containers from the host template, commands in them, and looks from
// outside. Not a test. Invariant: a container that a test makes goes with the test, whatever becomes of the test.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, onTestFinished } from "vitest";
import type { Container, ContainerSpec, GuestExec, GuestExit, GuestProcess, Runtime } from "../../src/runtime/runtime.ts";
import { openHostTemplate } from "../../src/sandbox/template.ts";

export const MIB = 1024 * 1024;
/** The guest may have to be built first. */
const BUILD_MS = 180_000;

export interface SuiteOptions {
  /** Private directory for sockets. */
  readonly runDir: string;
}

export type OpenRuntime = (options: SuiteOptions) => Promise<Runtime>;

export interface Ran {
  readonly exit: GuestExit;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export interface Lab {
  readonly dir: string;
  readonly runtime: Runtime;
  readonly spec: (changes?: Partial<ContainerSpec>) => ContainerSpec;
  /** A container that goes with the test. */
  readonly make: (changes?: Partial<ContainerSpec>) => Promise<Container>;
}

/** The lab of a suite, there while its tests run. `missing`: what this machine lacks for it; each test skips with that. */
export function labFor(open: OpenRuntime, missing?: string): () => Lab {
  let lab: Lab | undefined;
  beforeAll(async () => {
    if (missing === undefined) lab = await openLab(open);
  }, BUILD_MS);
  beforeEach((context) => {
    if (missing !== undefined) context.skip(missing);
  });
  afterAll(async () => {
    await lab?.runtime[Symbol.asyncDispose]();
    if (lab !== undefined) rmSync(lab.dir, { recursive: true, force: true });
  });
  return () => {
    if (lab === undefined) throw new Error("the suite has no lab");
    return lab;
  };
}

export async function openLab(open: OpenRuntime): Promise<Lab> {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "corral-rt-")));
  for (const name of ["run", "tools", "empty", "journal"]) mkdirSync(join(dir, name), { mode: name === "run" ? 0o700 : 0o755 });
  execFileSync("cc", ["-O1", "-static", "-o", join(dir, "tools/peek"), join(import.meta.dirname, "../fixtures/runtime/peek.c")]);
  const runtime = await open({ runDir: join(dir, "run") });
  const { uid, gid, trusted } = runtime.ids;
  const template = openHostTemplate({
    dataDir: join(dir, "data"),
    path: "/usr/local/bin:/usr/bin:/bin",
    home: "/root",
    env: {},
    uid,
    gid,
    trusted,
  });
  const spec: Lab["spec"] = (changes = {}) => {
    const id = `sb${randomBytes(10).toString("hex")}`;
    const journalFile = join(dir, "journal", id);
    writeFileSync(journalFile, "");
    const memoryBytes = changes.limits?.memoryBytes ?? 512 * MIB;
    const plan = template.plan({ codebaseDir: join(dir, "journal"), memoryBytes });
    return {
      id,
      mounts: [
        ...plan.mounts,
        { kind: "overlay", target: "/workspace", lowers: [join(dir, "tools"), join(dir, "empty")], options: [], exec: true },
      ],
      hostname: plan.hostname,
      limits: { memoryBytes, cpus: null, pids: 256, openFiles: 4096 },
      env: plan.env,
      journalFile,
      ...changes,
    };
  };
  const make: Lab["make"] = async (changes) => {
    const container = await runtime.create(spec(changes));
    onTestFinished(() => container.destroy());
    return container;
  };
  return { dir, runtime, spec, make };
}

export interface RunOptions extends Partial<GuestExec> {
  readonly input?: Uint8Array;
}

export interface Started {
  readonly process: GuestProcess;
  readonly ended: Promise<Ran>;
  /** Resolves when stdout so far holds `text`. */
  readonly said: (text: string) => Promise<void>;
}

export function start(container: Container, command: string | readonly string[], { input, ...changes }: RunOptions = {}): Started {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const { promise, resolve, reject } = Promise.withResolvers<Ran>();
  const waiting: (() => void)[] = [];
  const process = container.exec({
    argv: typeof command === "string" ? ["/bin/sh", "-c", command] : command,
    env: {},
    cwd: "/workspace",
    stdin: input !== undefined,
    pty: null,
    timeoutMs: 20_000,
    idleTimeoutMs: 0,
    graceMs: 200,
    outputBytes: 0,
    onStarted: () => undefined,
    onOutput: (stream, chunk) => {
      chunks[stream].push(Buffer.from(chunk));
      for (const look of waiting) look();
      return true;
    },
    onExit: (exit) => resolve({ exit, stdout: Buffer.concat(chunks.stdout), stderr: Buffer.concat(chunks.stderr) }),
    onLost: (reason) => reject(new Error(`the sandbox was lost: ${reason}`)),
    ...changes,
  });
  promise.catch(() => undefined);
  if (input !== undefined)
    void process.write(input).then(
      () => process.closeStdin(),
      () => undefined,
    );
  const said = async (text: string): Promise<void> => {
    const heard = Promise.withResolvers<void>();
    const look = (): void => {
      if (Buffer.concat(chunks.stdout).includes(text)) heard.resolve();
    };
    waiting.push(look);
    look();
    await Promise.race([heard.promise, promise.then(() => undefined)]);
  };
  return { process, ended: promise, said };
}

export function run(container: Container, command: string | readonly string[], options?: RunOptions): Promise<Ran> {
  return start(container, command, options).ended;
}

export async function output(container: Container, command: string | readonly string[], options?: RunOptions): Promise<string> {
  const { exit, stdout, stderr } = await run(container, command, options);
  if (exit.code !== 0) throw new Error(`${JSON.stringify(command)} ended with ${JSON.stringify(exit)}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Processes that a shell started for this question sees beside itself, as lines of `ps`-like names. */
export async function others(container: Container): Promise<string[]> {
  const names = await output(container, 'for p in /proc/[0-9]*; do read -r name < $p/comm && echo "${p#/proc/} $name"; done; echo me $$');
  const lines = names.trim().split("\n");
  const me = lines.pop()?.split(" ")[1];
  return lines.filter((line) => !line.startsWith(`${me} `) && !line.startsWith("1 "));
}

/** The host's pid of PID 1 of a container. */
/** The node's number of a process of it, by its number inside; 1 unless another is named. */
export async function hostPid(container: Container, inside = 1): Promise<number> {
  const space = (await output(container, "readlink /proc/self/ns/pid")).trim();
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const found = pids.find(
    (pid) => linkOf(`/proc/${pid}/ns/pid`) === space && new RegExp(`^NSpid:.*\\t${inside}$`, "m").test(readText(`/proc/${pid}/status`)),
  );
  if (found === undefined) throw new Error(`PID ${inside} of the container is not visible from outside`);
  return Number(found);
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // ended meanwhile, or not ours to look at
  }
}

export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

export const IDLE: GuestExec = {
  argv: [],
  env: {},
  cwd: "/",
  stdin: false,
  pty: null,
  timeoutMs: 0,
  idleTimeoutMs: 0,
  graceMs: 100,
  outputBytes: 0,
  onStarted: () => undefined,
  onOutput: () => true,
  onExit: () => undefined,
  onLost: () => undefined,
};

/** What of a container can be found on the node: its socket and its cgroups. */
export function leftovers(id: string, dir: string): string[] {
  const sockets = readdirSync(join(dir, "run")).filter((name) => name.startsWith(id));
  return [...sockets, ...cgroupsNamed(id)];
}

function cgroupsNamed(id: string): string[] {
  const tops = readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(" ")[4] ?? "");
  return tops.flatMap((top) => find(top, id, 5));
}

function find(dir: string, id: string, depth: number): string[] {
  if (depth === 0) return [];
  let entries: string[];
  try {
    entries = readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
  return entries.flatMap((name) => (name === id ? [join(dir, name)] : find(join(dir, name), id, depth - 1)));
}
