// Processes of one sandbox by their ids: started, found again after a server's death, asked for, forgotten.
// Not what one is: process.ts. Invariant: an id stands for one process for ever; what is not in the roster is in no list.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { KILL_GRACE_MS, MAX_WAIT_MS } from "../api/limits.ts";
import type { ProcessInfo, ProcessOutput, SandboxProcesses, StartProcessBody } from "../api/processes.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { Container, GuestExit, KeptCommand } from "../runtime/runtime.ts";
import { checkExec } from "./exec-request.ts";
import { cwdError, startWords } from "./exit-words.ts";
import { type KeptNote, readNote, writeNote } from "./kept-note.ts";
import { KeptProcess } from "./process.ts";
import type { Roster } from "./roster.ts";
import { signalNumber } from "./signals.ts";

/** What kept commands of a sandbox stand on. */
export interface KeptContext {
  readonly container: Container;
  readonly clock: Clock;
  readonly roster: Roster;
  /** Throws unless commands may be started. */
  readonly demand: () => void;
  /** As for an exec: called when it runs; what it returns is called when it ended. */
  readonly guard: (hit: (limit: LimitHit) => void) => () => void;
  /** Tells the guest, while there is one. */
  readonly forget: (id: string) => void;
}

const DEFAULT_CWD = "/workspace";

export class Processes implements SandboxProcesses {
  readonly #context: KeptContext;
  readonly #processes = new Map<string, KeptProcess>();

  constructor(context: KeptContext) {
    this.#context = context;
  }

  /** `id`: one that the caller has written down already. */
  async start(request: StartProcessBody & { readonly id?: string }): Promise<ProcessInfo> {
    const { container, clock, roster, demand } = this.#context;
    demand();
    const { stdin = false, ...rest } = request;
    const problem = checkExec(rest);
    if (problem !== undefined) throw new CorralError("request_invalid", problem);
    const { command, env = {}, cwd = DEFAULT_CWD, pty, timeoutMs = 0 } = rest;
    const id = request.id ?? `${ID_PREFIX.process}${randomText(ID_BODY_LENGTH)}`;
    const note = { command, startedAt: clock.wallMs() };
    const argv = typeof command === "string" ? ["/bin/sh", "-c", command] : command;
    roster.add(id, () => this.#forget(id));
    const { process, release } = this.#make(id, note);
    const began = Promise.withResolvers<void>();
    const { sinks } = process;
    try {
      const guest = container.exec({
        ...sinks,
        ...{ argv, env, cwd, stdin, pty: pty ?? null, timeoutMs, idleTimeoutMs: 0, graceMs: KILL_GRACE_MS, outputBytes: 0 },
        key: id,
        note: writeNote(note),
        onStarted: (pid) => {
          process.runs(guest, { pid, offset: 0, pty: pty !== undefined });
          this.#processes.set(id, process);
          began.resolve();
        },
        onExit: (exit) => (exit.startErrno === 0 ? sinks.onExit(exit) : began.reject(startError(exit, argv[0] ?? "", cwd))),
        onLost: (reason) => {
          sinks.onLost(reason);
          began.reject(new CorralError("sandbox_lost", `the sandbox ended before the process ran: ${reason}`));
        },
      });
      await began.promise;
    } catch (error) {
      roster.remove(id);
      release();
      throw error;
    }
    return process.info();
  }

  /** A process that an earlier server started. */
  async takeUp({ key: id, note }: KeptCommand): Promise<void> {
    const { container, clock, roster } = this.#context;
    roster.add(id, () => this.#forget(id));
    const { process, release } = this.#make(id, readNote(note, clock.wallMs()));
    const found = Promise.withResolvers<void>();
    const guest = container.attach(id, 0, {
      ...process.sinks,
      onAttached: (command) => {
        process.runs(guest, command);
        this.#processes.set(id, process);
        found.resolve();
      },
      onUnknown: () => {
        roster.remove(id);
        release();
        found.resolve();
      },
      onLost: (reason) => {
        process.sinks.onLost(reason);
        found.resolve();
      },
    });
    await found.promise;
  }

  list(): Promise<{ readonly items: readonly ProcessInfo[] }> {
    return Promise.resolve({ items: [...this.#processes.values()].map((process) => process.info()) });
  }

  async get(id: string): Promise<ProcessInfo> {
    return await Promise.resolve(this.#find(id).info());
  }

  async *output(
    id: string,
    { from, signal }: { readonly from?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<ProcessOutput> {
    yield* this.#find(id).output(from, signal);
  }

  async write(id: string, bytes: Uint8Array, options: { readonly end?: boolean; readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#find(id).write(bytes, options);
  }

  async signal(id: string, name: string, { tree = false }: { readonly tree?: boolean } = {}): Promise<void> {
    await Promise.resolve(this.#find(id).signal(signalNumber(name), tree));
  }

  async resize(id: string, { rows, cols }: { readonly rows: number; readonly cols: number }): Promise<void> {
    await Promise.resolve(this.#find(id).resize(rows, cols));
  }

  async wait(
    id: string,
    { timeoutMs = MAX_WAIT_MS, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<ProcessInfo> {
    const process = this.#find(id);
    const enough = AbortSignal.timeout(Math.min(timeoutMs, MAX_WAIT_MS));
    const info = await process.wait(signal === undefined ? enough : AbortSignal.any([enough, signal]));
    demandWanted(signal);
    return info;
  }

  async stop(id: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<ProcessInfo> {
    const process = this.#find(id);
    process.stop();
    const info = await process.wait(signal);
    demandWanted(signal);
    return info;
  }

  #make(id: string, note: KeptNote): { readonly process: KeptProcess; readonly release: () => void } {
    const { clock, guard, roster } = this.#context;
    const release = guard((limit) => process.killFor(limit));
    const onEnd = (): void => {
      release();
      roster.ended(id);
    };
    const process = new KeptProcess({ id, note, clock, onEnd });
    return { process, release };
  }

  #find(id: string): KeptProcess {
    const process = this.#processes.get(id);
    if (process === undefined)
      throw new CorralError("process_not_found", `there is no process ${id}: it never was, or it ended and was forgotten`);
    return process;
  }

  #forget(id: string): void {
    this.#processes.delete(id);
    this.#context.forget(id);
  }
}

/** Why a kept command did not start. */
function demandWanted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new CorralError("canceled", "who waited for the process went away");
}

function startError(exit: GuestExit, program: string, cwd: string): CorralError {
  if (exit.cwdFailed) return cwdError(cwd, exit.startErrno);
  return new CorralError("exec_failed", `${program}: ${startWords(exit.startErrno)}`);
}
