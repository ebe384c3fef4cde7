// Processes of one sandbox by their ids: started, found again after a server's death, asked for, forgotten.
// Not what one is: process.ts; not how it is kept: kept-set.ts. Invariant: one that is listed has begun.

import type { CallOptions } from "../api/calls.ts";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { MAX_WAIT_MS } from "../api/limits.ts";
import type { OutputOptions, ProcessInfo, ProcessOutput, SandboxProcesses, StartProcessBody } from "../api/processes.ts";
import { randomText } from "../base/random-text.ts";
import type { GuestExit, KeptCommand } from "../runtime/runtime.ts";
import { checkExec } from "./exec-request.ts";
import { cwdError, startWords } from "./exit-words.ts";
import { readNote, writeNote } from "./kept-note.ts";
import { type KeptContext, KeptSet } from "./kept-set.ts";
import { KeptProcess } from "./process.ts";
import { signalNumber } from "./signals.ts";
import { demandWanted } from "./wanted.ts";

const DEFAULT_CWD = "/workspace";
const WAITER_GONE = "who waited for the process went away";

export class Processes implements SandboxProcesses {
  readonly #context: KeptContext;
  readonly #processes: KeptSet<KeptProcess>;

  constructor(context: KeptContext) {
    this.#context = context;
    this.#processes = new KeptSet(context, "process");
  }

  /** `id`: one that the caller has written down already. */
  async start(request: StartProcessBody & { readonly id?: string }): Promise<ProcessInfo> {
    const { clock, demand } = this.#context;
    demand();
    const { stdin = false, ...rest } = request;
    const problem = checkExec(rest);
    if (problem !== undefined) throw new CorralError("request_invalid", problem);
    const { command, env = {}, cwd = DEFAULT_CWD, pty, timeoutMs = 0 } = rest;
    const id = request.id ?? `${ID_PREFIX.process}${randomText(ID_BODY_LENGTH)}`;
    const note = { command, startedAt: clock.wallMs() };
    const argv = typeof command === "string" ? ["/bin/sh", "-c", command] : command;
    const process = await this.#processes.begin(id, {
      make: (onEnd) => new KeptProcess({ id, note, clock, onEnd }),
      exec: { argv, env, cwd, stdin, pty: pty ?? null, timeoutMs, note: writeNote(note) },
      runs: (made, guest, pid) => made.runs(guest, { pid, offset: 0, pty: pty !== undefined }),
      startError: (exit) => startError(exit, argv[0] ?? "", cwd),
    });
    return process.info();
  }

  /** A process that an earlier server started. */
  async takeUp({ key: id, note: written }: KeptCommand): Promise<void> {
    const { clock } = this.#context;
    const note = readNote(written, clock.wallMs());
    await this.#processes.takeUp(id, {
      make: (onEnd) => new KeptProcess({ id, note, clock, onEnd }),
      offset: 0,
      runs: (made, guest, command) => made.runs(guest, command),
    });
  }

  list(): Promise<{ readonly items: readonly ProcessInfo[] }> {
    return Promise.resolve({ items: this.#processes.list().map((process) => process.info()) });
  }

  async get(id: string): Promise<ProcessInfo> {
    return await Promise.resolve(this.#processes.find(id).info());
  }

  async *output(id: string, options: OutputOptions & CallOptions = {}): AsyncGenerator<ProcessOutput> {
    yield* this.#processes.find(id).output(options);
  }

  async write(id: string, bytes: Uint8Array, options: { readonly end?: boolean; readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#processes.find(id).write(bytes, options);
  }

  async signal(id: string, name: string, { tree = false }: { readonly tree?: boolean } = {}): Promise<void> {
    await Promise.resolve(this.#processes.find(id).signal(signalNumber(name), tree));
  }

  async resize(id: string, { rows, cols }: { readonly rows: number; readonly cols: number }): Promise<void> {
    await Promise.resolve(this.#processes.find(id).resize(rows, cols));
  }

  async wait(
    id: string,
    { timeoutMs = MAX_WAIT_MS, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<ProcessInfo> {
    const process = this.#processes.find(id);
    const enough = AbortSignal.timeout(Math.min(timeoutMs, MAX_WAIT_MS));
    const info = await process.wait(signal === undefined ? enough : AbortSignal.any([enough, signal]));
    demandWanted(signal, WAITER_GONE);
    return info;
  }

  async stop(id: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<ProcessInfo> {
    const process = this.#processes.find(id);
    process.stop();
    const info = await process.wait(signal);
    demandWanted(signal, WAITER_GONE);
    return info;
  }
}

/** Why it did not start. */
function startError(exit: GuestExit, program: string, cwd: string): CorralError {
  if (exit.cwdFailed) return cwdError(cwd, exit.startErrno);
  return new CorralError("exec_failed", `${program}: ${startWords(exit.startErrno)}`);
}
