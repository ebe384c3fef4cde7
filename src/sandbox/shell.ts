// One shell: a bash that takes commands one after the other by its control channel (shell-loop.bash) and keeps its state between them.
// Not one command of it: shell-run.ts. Invariant: at most one command runs; its end is believed only under the id that it was sent with; a
// shell that says what no loop of ours says, or does not come back from a time-out, is ended and told as closed.

import { constants } from "node:os";
import { CorralError } from "../api/errors.ts";
import { KILL_GRACE_MS, MAX_SHELL_COMMAND_BYTES, MAX_SHELL_QUEUE } from "../api/limits.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { RunInShell, ShellInfo, ShellResult } from "../api/shells.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { GuestExit, GuestProcess, GuestSinks } from "../runtime/runtime.ts";
import { exitCode } from "./exit-words.ts";
import { Pace } from "./pace.ts";
import { ShellRun } from "./shell-run.ts";
import { commandRecords, loopRecord, pingRecords, RECORD_ID_LENGTH, ReportReader, type ShellReport } from "./shell-wire.ts";
import { signalName } from "./signals.ts";
import { demandWanted } from "./wanted.ts";

const { SIGINT, SIGKILL } = constants.signals;

/** Reports that nobody waits for: one comes after each change of servers, for what ran then. */
const MAX_STRAYS = 1_000;

export interface ShellParts {
  readonly id: string;
  readonly openedAt: number;
  readonly clock: Clock;
  readonly onEnd: () => void;
}

export class Shell {
  readonly id: string;
  /** It has answered for the first time, or ended before. */
  readonly ready: Promise<void>;
  readonly #parts: ShellParts;
  readonly ended: Promise<void>;
  readonly #ready = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly #reports = new ReportReader();
  readonly #queue: ShellRun[] = [];
  /** Of what background jobs write while no command runs. */
  readonly #pace = new Pace({ credit: (bytes) => this.#guest?.credit(bytes) });
  #guest: GuestProcess | undefined;
  #pid = 0;
  #cwd = "/";
  /** Id of the record whose report is waited for; a run, or a ping. */
  #awaited: string | undefined;
  #run: ShellRun | undefined;
  #timer: NodeJS.Timeout | undefined;
  #end: ShellInfo["end"] = null;
  #limitHit: LimitHit | null = null;
  #strays = 0;
  #why = "";

  constructor(parts: ShellParts) {
    this.id = parts.id;
    this.#parts = parts;
    this.ready = this.#ready.promise;
    this.ended = this.#ended.promise;
  }

  get sinks(): GuestSinks {
    return {
      onOutput: (stream, chunk) => this.#run?.take(stream, chunk) ?? this.#pace.take(chunk.length),
      onControl: (chunk) => this.#heard(chunk),
      onExit: (exit) => this.#exited(exit),
      onLost: (reason) => this.#lose(reason),
    };
  }

  /** Bash runs, or was found again; then whoever wrote before may have been cut off at any byte. */
  runs(guest: GuestProcess, pid: number, again: boolean): void {
    this.#guest = guest;
    this.#pid = pid;
    if (again) guest.restartStdin();
    guest.closeStdin();
    const id = randomText(RECORD_ID_LENGTH);
    this.#awaited = id;
    if (!again) void guest.control(loopRecord());
    void guest.control(pingRecords(id, again));
  }

  info(): ShellInfo {
    const state = this.#isOver ? "closed" : this.#awaited === undefined ? "idle" : "busy";
    const openedAt = new Date(this.#parts.openedAt).toISOString();
    return { id: this.id, pid: this.#pid, cwd: this.#cwd, state, openedAt, end: this.#end };
  }

  run(request: RunInShell): Promise<ShellResult> {
    const { command, signal } = request;
    if (command.includes("\0")) throw new CorralError("request_invalid", "command: it holds a NUL byte, which no shell can read");
    if (Buffer.byteLength(command) > MAX_SHELL_COMMAND_BYTES)
      throw new CorralError("request_too_large", `command: more than ${MAX_SHELL_COMMAND_BYTES} bytes; write a file and run it`);
    if (this.#isOver) throw this.#closed();
    demandWanted(signal, "the command was not started: its caller had gone away");
    if (this.#queue.length >= MAX_SHELL_QUEUE)
      throw new CorralError("limit_reached", `${MAX_SHELL_QUEUE} commands wait for the shell ${this.id} already; wait for one to end`);
    const run = new ShellRun(request, {
      clock: this.#parts.clock,
      credit: (bytes) => this.#guest?.credit(bytes),
      failed: () => this.interrupt(),
    });
    this.#queue.push(run);
    const takeBack = (): void => this.#takeBack(run);
    const settled = (): void => signal?.removeEventListener("abort", takeBack);
    signal?.addEventListener("abort", takeBack);
    run.result.then(settled, settled);
    this.#next();
    return run.result;
  }

  /** SIGINT to what runs in the foreground; its background jobs do not hear it. */
  interrupt(): void {
    if (this.#run !== undefined) this.#guest?.signal(SIGINT);
  }

  close(why = "it was closed"): void {
    if (this.#isOver) return;
    this.#why ||= why;
    this.#guest?.stop();
  }

  killFor(limit: LimitHit): void {
    if (this.#isOver || this.#limitHit !== null) return;
    this.#limitHit = limit;
    this.#why ||= `it passed the ${limit} limit of the sandbox`;
    this.#guest?.signal(SIGKILL, true);
  }

  get #isOver(): boolean {
    return this.#end !== null;
  }

  #takeBack(run: ShellRun): void {
    const at = this.#queue.indexOf(run);
    if (at < 0) return;
    this.#queue.splice(at, 1);
    run.refuse(new CorralError("canceled", "the command was not started: its caller had gone away"));
  }

  #next(): void {
    if (this.#awaited !== undefined || this.#run !== undefined || this.#isOver) return;
    const run = this.#queue.shift();
    const guest = this.#guest;
    if (run === undefined || guest === undefined) return;
    const { command, stdin, timeoutMs } = run.request;
    this.#run = run;
    const id = randomText(RECORD_ID_LENGTH);
    this.#awaited = id;
    run.begin();
    if (stdin !== undefined) {
      guest.restartStdin();
      void guest.write(stdin);
      guest.closeStdin();
    }
    // An empty record would be a ping.
    void guest.control(commandRecords(id, Buffer.from(command === "" ? ":" : command))).then(() => run.request.onStarted?.());
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => this.#outOfTime(run), timeoutMs);
  }

  #outOfTime(run: ShellRun): void {
    run.timedOut = true;
    this.interrupt();
    this.#timer = setTimeout(() => this.close("a command of it did not end when it was out of time"), KILL_GRACE_MS);
  }

  #heard(chunk: Uint8Array): void {
    const reports = this.#reports.push(chunk);
    if (reports === undefined) return this.close("something else wrote to its control channel");
    for (const report of reports) {
      if (report.id === this.#awaited) this.#reported(report);
      else if (++this.#strays > MAX_STRAYS) return this.close("something else wrote to its control channel");
    }
  }

  #reported({ exitCode: status, cwd }: ShellReport): void {
    this.#cwd = cwd;
    this.#awaited = undefined;
    this.#ready.resolve();
    this.#finish({ exitCode: status, closed: false });
    this.#next();
  }

  #finish({ exitCode: status, closed }: { readonly exitCode: number; readonly closed: boolean }): void {
    clearTimeout(this.#timer);
    const run = this.#run;
    this.#run = undefined;
    if (run === undefined) return;
    if (run.request.stdin !== undefined && !closed) {
      // What the command did not read of it is not the next one's.
      this.#guest?.restartStdin();
      this.#guest?.closeStdin();
    }
    void run.end({ exitCode: status, cwd: this.#cwd, closed, limitHit: this.#limitHit });
  }

  #exited(exit: GuestExit): void {
    const code = exitCode(exit);
    this.#limitHit ??= exit.memoryHit ? "memory" : exit.pidsHit ? "pids" : null;
    this.#over({ exitCode: code, signal: signalName(exit.signal) });
    this.#finish({ exitCode: code, closed: true });
    for (const run of this.#queue.splice(0)) run.refuse(this.#closed());
  }

  #lose(reason: string): void {
    const lost = new CorralError("sandbox_lost", `the sandbox ended while the shell lived: ${reason}`);
    clearTimeout(this.#timer);
    for (const run of [this.#run, ...this.#queue.splice(0)]) run?.refuse(lost);
    this.#run = undefined;
    this.#why ||= reason;
    this.#over({ exitCode: 128 + SIGKILL, signal: "SIGKILL" });
  }

  #over(end: NonNullable<ShellInfo["end"]>): void {
    this.#pace.stop();
    this.#end = end;
    this.#awaited = undefined;
    this.#ready.resolve();
    this.#ended.resolve();
    this.#parts.onEnd();
  }

  #closed(): CorralError {
    const { exitCode: code = 0, signal = null } = this.#end ?? {};
    const how = signal === null ? `exit ${code}` : signal;
    return new CorralError("shell_closed", `the shell ${this.id} has ended (${this.#why || how}); open another one`, {
      details: { exitCode: code, signal },
    });
  }
}
