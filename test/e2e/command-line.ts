// Runs the real command line as a process, with a data directory of its own; a pty where a test asks for one.
// Invariant: a run that a test forgets is ended with the test's process.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { removeTree } from "../fixtures/remove-tree.ts";

const MAIN = join(import.meta.dirname, "..", "..", "src", "main.ts");

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when stdout holds `text`, behind `after` where that is given. */
  readonly said: (text: string, after?: string) => Promise<void>;
}

export interface StartOptions {
  readonly cwd?: string;
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Keep stdin open. */
  readonly open?: boolean;
  /** On a terminal: a line of shell that runs on it afterwards; `$before` says how its modes were. */
  readonly afterwards?: string;
}

export function start(args: readonly string[], options: StartOptions = {}): Started {
  return started(
    spawn(process.execPath, [MAIN, ...args], { cwd: options.cwd, env: { ...process.env, ...options.env }, stdio: "pipe" }),
    options,
  );
}

/** The same on a terminal: `script` of util-linux makes the pty. `keys` are typed at once. */
export function startOnTerminal(args: readonly string[], options: StartOptions = {}): Started {
  const line = [process.execPath, MAIN, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const whole =
    options.afterwards === undefined ? `exec ${line}` : `before=$(stty -g); ${line}; code=$?; ${options.afterwards}; exit $code`;
  const child = spawn("script", ["--quiet", "--return", "--echo", "never", "--command", `stty rows 40 cols 120; ${whole}`, "/dev/null"], {
    cwd: options.cwd,
    env: { ...process.env, TERM: "xterm-256color", ...options.env },
    stdio: "pipe",
  });
  return started(child, { ...options, open: true });
}

export function run(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return start(args, options).ended;
}

function started(child: ChildProcess, options: StartOptions): Started {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let heard: () => void = () => undefined;
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout.push(chunk);
    heard();
  });
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin?.on("error", () => undefined); // the program may end without reading
  if (options.input !== undefined) child.stdin?.write(options.input);
  if (options.open !== true) child.stdin?.end();
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) =>
      resolve({ code, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString("utf8") }),
    );
  });
  const said = (text: string, after = ""): Promise<void> =>
    new Promise((resolve, reject) => {
      heard = () => {
        const all = Buffer.concat(stdout);
        const from = all.indexOf(after);
        if (from >= 0 && all.includes(text, from)) resolve();
      };
      heard();
      void ended.then((end) =>
        reject(new Error(`it ended with ${end.code} before it said ${JSON.stringify(text)}: ${end.stdout.toString()} ${end.stderr}`)),
      );
    });
  return { child, ended, said };
}

export interface Scratch extends Disposable {
  readonly dir: string;
  /** A codebase of the given files. */
  readonly codebase: (files: Readonly<Record<string, string>>, name?: string) => string;
  /** Options that every run gets. */
  readonly data: readonly [string, string];
}

export function scratch(): Scratch {
  const dir = mkdtempSync(join(tmpdir(), "corral-e2e-"));
  return {
    dir,
    data: ["--data", join(dir, "data")],
    codebase: (files, name = "code") => {
      const root = join(dir, name);
      mkdirSync(root, { recursive: true });
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(join(root, path)), { recursive: true });
        writeFileSync(join(root, path), content);
      }
      return root;
    },
    [Symbol.dispose]: () => removeTree(dir),
  };
}

/** The object that --json prints on the last line. */
export function lastObject(stdout: Buffer): Record<string, unknown> {
  const lines = stdout.toString("utf8").trimEnd().split("\n");
  return JSON.parse(lines.at(-1) ?? "") as Record<string, unknown>;
}
