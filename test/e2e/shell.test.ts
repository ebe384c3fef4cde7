// `corral shell` and `corral logs`, as a person has them on a terminal (that of `script`) and a script has them on pipes.

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { afterAll, beforeAll, expect, vi } from "vitest";
import type { SandboxHandle } from "../../src/api/client.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";
import { run, type Started, startOnTerminal } from "./command-line.ts";

// Each test starts several programs; a machine that runs other tests beside them takes its time.
vi.setConfig({ testTimeout: 60_000 });

let server: ServerHere;
let sandbox: SandboxHandle;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  server = await startServerHere();
  const key = await server.keyOf("ann");
  sandbox = await new Corral({ url: server.url, key }).create({});
  env = { CORRAL_URL: server.url, CORRAL_KEY: key };
});
afterAll(() => server[Symbol.asyncDispose]());

/** Tells, behind the command, whether the terminal is as a shell leaves it. */
const MODES = '[ "$(stty -g)" = "$before" ] && echo COOKED || echo RAW';

function shell(words: readonly string[] = []): Started {
  return startOnTerminal(["shell", sandbox.id, ...words], { env, afterwards: MODES });
}

/** Again and again: what is asked for may not have come to pass yet. */
async function typedUntil({ child, said }: Started, line: string, text: string): Promise<void> {
  const timer = setInterval(() => child.stdin?.write(line), 500);
  await said(text).finally(() => clearInterval(timer));
}

/** The program itself, below `script` and its shell. */
function programOf({ child }: Started): number {
  const found = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .find((pid) => hasAncestor(Number(pid), child.pid ?? 0) && commandOf(pid).includes("main.ts\0shell"));
  if (found === undefined) throw new Error("the program is not there");
  return Number(found);
}

/** `script` has one shell, which is the program's parent. */
function hasAncestor(pid: number, ancestor: number): boolean {
  const parent = parentOf(pid);
  return parent === ancestor || parentOf(parent) === ancestor;
}

function parentOf(pid: number): number {
  return Number(/\) \S (\d+)/.exec(textOf(`/proc/${pid}/stat`))?.[1] ?? 0);
}

function commandOf(pid: string): string {
  return textOf(`/proc/${pid}/cmdline`);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it ended
  }
}

async function running(): Promise<string[]> {
  return (await sandbox.processes.list()).items.filter(({ end }) => end === null).map(({ id }) => id);
}

verifies(
  "cli/shell",
  "a shell in a sandbox has the person's keys and window, its exit code is told, and the terminal comes back",
  async () => {
    const started = shell(["--env", "PS1=ready> "]);
    const { child, said, ended } = started;
    await said("ready>");
    child.stdin?.write("stty size; echo $TERM\r");
    await said("xterm-256color", "40 120");
    const tty = readlinkSync(`/proc/${programOf(started)}/fd/0`);
    spawnSync("stty", ["-F", tty, "rows", "30", "cols", "101"]);
    await typedUntil(started, "stty size\r", "30 101");
    child.stdin?.write("echo sl''eeps; sleep 1000\r");
    await said("sleeps");
    child.stdin?.write("\x03"); // Ctrl-C is the program's
    child.stdin?.write("exit 7\r");
    const { code, stdout } = await ended;
    expect([code, stdout.toString()]).toEqual([7, expect.stringContaining("COOKED")]);
  },
);

verifies("cli/shell-leave", "a person leaves a shell running and goes back to it; its state is as it was", async () => {
  const first = shell(["--env", "PS1=ready> "]);
  await first.said("ready>");
  first.child.stdin?.write("\x1d"); // alone it is the program's
  first.child.stdin?.write("\b\b\bkept=4''2\r");
  await first.said("kept=");
  first.child.stdin?.write("\x1d\x1d");
  const left = await first.ended;
  expect([left.code, left.stdout.toString()]).toEqual([
    0,
    expect.stringMatching(/left running; corral shell \S+ --process proc\w+[^]*COOKED/),
  ]);
  const [id = ""] = await running();
  const second = shell(["--process", id.slice(0, 12)]);
  await typedUntil(second, "echo is $kept\r", "is 42");
  second.child.stdin?.write("exit 3\r");
  expect((await second.ended).code).toBe(3);
});

verifies("cli/shell-signal", "whatever ends the command gives the terminal back and takes along what it had started", async () => {
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    const started = shell(["--", "sh", "-c", "printf '\\033[?1049h'; echo up; sleep 1000"]);
    await started.said("up");
    process.kill(programOf(started), signal);
    const end = await started.ended;
    expect([end.code, end.stdout.toString()]).toEqual([code, expect.stringMatching(/\[\?1049l[^]*COOKED/)]);
    await expect.poll(running).toEqual([]);
  }
});

verifies("cli/shell-pipes", "without a terminal a command's streams pass unchanged, and a shell is refused in one line", async () => {
  const refused = await run(["shell", sandbox.id], { env });
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/^corral: request_invalid: a shell wants a terminal.*\n$/)]);
  const input = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  const ran = await run(["shell", sandbox.id, "--", "sh", "-c", "cat; echo no >&2; exit 5"], { env, input });
  expect(ran).toEqual(expect.objectContaining({ code: 5, stdout: input, stderr: "no\n" }));
});

verifies("cli/logs", "what a process wrote is printed, as far as it is kept or until it ends", async () => {
  const { id } = await sandbox.processes.start({ command: "echo one; echo two >&2; read x; echo $x", stdin: true });
  await expect.poll(async () => (await sandbox.processes.get(id)).output.to).toBe(8);
  expect(await run(["logs", sandbox.id, id.slice(0, 14)], { env })).toEqual(
    expect.objectContaining({ code: 0, stdout: Buffer.from("one\n"), stderr: "two\n" }),
  );
  const following = run(["logs", sandbox.id, id, "-f"], { env });
  await sandbox.processes.write(id, Buffer.from("three\n"));
  expect((await following).stdout.toString()).toBe("one\nthree\n");
  const several = await run(["logs", sandbox.id], { env });
  expect([several.code, several.stderr]).toEqual([2, expect.stringContaining("name one")]);
});
