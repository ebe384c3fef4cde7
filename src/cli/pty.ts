// Joins this process's terminal to the pty of a sandboxed command. The command gets the sandbox's own pty, never our descriptor.
// Invariant: whatever ends the run, the terminal is given back as it was: cooked, with the modes the program left on turned
// off, and with no answer still on its way that a shell would take for typing.

import { TerminalFilter } from "./terminal-filter.ts";
import { source } from "./streams.ts";

/** How long a terminal may take to answer before the answers still on their way are given up, ms. */
const DRAIN_MS = 200;
/** Asks for the terminal's status; terminals answer in order, so this answer is the last. */
const STATUS_QUERY = "\u001b[5n";
const STATUS_ANSWER = "\u001b[0n";

export interface AttachedTerminal {
  readonly input: AsyncIterableIterator<Uint8Array>;
  readonly output: (chunk: Uint8Array) => void | Promise<void>;
  /** Calls back with the new size whenever the window changes. */
  readonly onResize: (resized: (rows: number, cols: number) => void) => void;
  readonly detach: () => Promise<void>;
}

/** Whether a command can be given a pty: all three of our streams are the person's terminal, so nothing is lost by joining them. */
export function isInteractive(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY && process.stderr.isTTY;
}

/** Of the window as it is now. */
export function terminalSize(): { readonly rows: number; readonly cols: number } {
  const { rows, columns } = process.stdout;
  return { rows: cells(rows, 24), cols: cells(columns, 80) };
}

/** The kind of terminal, so that programs draw right; nothing else of our environment enters. */
export function terminalEnv(): Record<string, string> {
  const env: Record<string, string> = { TERM: "xterm-256color" };
  for (const name of ["TERM", "COLORTERM"]) {
    const value = process.env[name];
    if (value !== undefined && /^[A-Za-z0-9.+_-]{1,64}$/.test(value)) env[name] = value;
  }
  return env;
}

export function attachTerminal(): AttachedTerminal {
  const { stdin, stdout } = process;
  const filter = new TerminalFilter("pty");
  const input = source(stdin);
  let onWindow: () => void = () => undefined;
  let wake: () => void = () => undefined;
  const onDrain = (): void => wake();
  // The person closed the window: SIGHUP follows and ends the run.
  const onError = (): void => wake();
  stdout.on("drain", onDrain).on("error", onError);
  stdin.setRawMode(true);
  return {
    input,
    output: (chunk) => {
      const shown = filter.feed(chunk);
      if (shown.length === 0 || stdout.write(shown)) return;
      return new Promise((resolve) => {
        wake = resolve;
      });
    },
    onResize: (resized) => {
      onWindow = () => {
        const { rows, cols } = terminalSize();
        resized(rows, cols);
      };
      stdout.on("resize", onWindow);
    },
    detach: async () => {
      stdout.off("resize", onWindow);
      await input.return?.();
      stdout.write(Buffer.concat([filter.end(), Buffer.from(filter.restore())]));
      if (filter.asked) await drain(stdin, stdout);
      stdin.setRawMode(false);
      stdout.off("drain", onDrain).off("error", onError);
    },
  };
}

function cells(value: number | undefined, fallback: number): number {
  return value === undefined || value < 1 ? fallback : value;
}

/** Reads and drops until the terminal has answered what the program asked. */
async function drain(stdin: NodeJS.ReadStream, stdout: NodeJS.WriteStream): Promise<void> {
  await new Promise<void>((resolve) => {
    let seen = "";
    const timer = setTimeout(done, DRAIN_MS);
    function done(): void {
      clearTimeout(timer);
      stdin.off("data", onData);
      stdin.pause();
      resolve();
    }
    function onData(chunk: Buffer): void {
      seen = (seen + chunk.toString("latin1")).slice(-64);
      if (seen.includes(STATUS_ANSWER)) done();
    }
    stdin.on("data", onData);
    stdin.resume();
    stdout.write(STATUS_QUERY);
  });
}
