// A real `corral serve` that can be killed at any moment of its life, its start included. Invariant: it has a process group of its own, and
// whoever started it waits for its end.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const LAUNCHER = join(import.meta.dirname, "..", "..", "corral");
const START_MS = 60_000;
const STDERR_BYTES = 4096;

export interface Answering {
  readonly url: string;
  /** At the first start of a data directory. */
  readonly key: string | null;
}

export class ServerUnderFire {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  #stderr = "";

  constructor(dataDir: string) {
    this.#child = spawn(LAUNCHER, ["serve", "--port", "0", "--json", "--data", dataDir], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.#exit = once(this.#child, "exit");
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-STDERR_BYTES);
    });
  }

  /** Throws with what it wrote when it ends, or does not answer in time. */
  async answers(): Promise<Answering> {
    if (this.#child.stdout === null) throw new Error("no stdout");
    const lines = createInterface(this.#child.stdout);
    const timer = setTimeout(() => this.kill("group"), START_MS);
    const line = await Promise.race([once(lines, "line") as Promise<[string]>, this.#exit.then(() => undefined)]);
    clearTimeout(timer);
    const told = line === undefined ? {} : (JSON.parse(line[0]) as Partial<Answering>);
    if (told.url === undefined) throw new Error(`the server did not start: ${this.#stderr}`);
    return { url: told.url, key: told.key ?? null };
  }

  /** kill -9 of the process, or of its whole group. */
  kill(whom: "process" | "group"): void {
    const pid = this.#child.pid ?? 0;
    if (pid === 0 || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    process.kill(whom === "group" ? -pid : pid, "SIGKILL");
  }

  async gone(): Promise<void> {
    await this.#exit;
  }

  /** As a person ends it. Resolves with the exit code. */
  async end(): Promise<number | null> {
    this.#child.kill("SIGTERM");
    await this.#exit;
    return this.#child.exitCode;
  }

  get stderr(): string {
    return this.#stderr;
  }
}
