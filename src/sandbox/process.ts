// One process of a sandbox that runs beside its callers: what it wrote last, its stdin, its end. It is read as fast as it writes, by nobody
// if need be; a reader may ask it to wait. Not one command of a caller: that is exec.ts's. Invariant: an offset means the same byte to every
// reader and to every server; the end is told after the last byte; bytes of stdin that wait here are bounded.

import { constants } from "node:os";
import type { CallOptions } from "../api/calls.ts";
import { CorralError } from "../api/errors.ts";
import { MAX_WAITING_STDIN_BYTES, PROCESS_OUTPUT_BYTES } from "../api/limits.ts";
import type { OutputOptions, ProcessEnd, ProcessInfo, ProcessOutput } from "../api/processes.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import { Bell } from "../base/bell.ts";
import type { Clock } from "../base/clock.ts";
import type { GuestExit, GuestProcess, GuestSinks } from "../runtime/runtime.ts";
import { exitCode } from "./exit-words.ts";
import type { KeptNote } from "./kept-note.ts";
import { OutputTail } from "./output-tail.ts";
import { Pace } from "./pace.ts";
import { signalName } from "./signals.ts";
import { demandWanted } from "./wanted.ts";

export interface ProcessParts {
  readonly id: string;
  readonly note: KeptNote;
  readonly clock: Clock;
  readonly onEnd: () => void;
}

interface Reader {
  /** Offset of the first byte that it has not taken. */
  at: number;
}

export class KeptProcess {
  readonly id: string;
  readonly #parts: ProcessParts;
  readonly #bell = new Bell();
  /** Those whom it waits for. */
  readonly #holders = new Set<Reader>();
  #tail = new OutputTail(PROCESS_OUTPUT_BYTES, 0);
  #guest: GuestProcess | undefined;
  #pid = 0;
  #pty = false;
  #end: ProcessEnd | undefined;
  #lost: CorralError | undefined;
  #limitHit: LimitHit | null = null;
  #waitingStdin = 0;
  readonly #pace = new Pace({
    credit: (bytes) => this.#guest?.credit(bytes),
    behind: () => Math.max(0, ...[...this.#holders].map(({ at }) => this.#tail.to - at)),
  });

  constructor(parts: ProcessParts) {
    this.id = parts.id;
    this.#parts = parts;
  }

  /** What a container calls. */
  get sinks(): GuestSinks {
    return {
      onOutput: (stream, chunk) => this.#take(stream, chunk),
      onExit: (exit) => this.#ended(exit),
      onLost: (reason) => this.#lose(reason),
    };
  }

  /** It runs, or was found again; `offset`: of the first byte that follows. */
  runs(guest: GuestProcess, { pid, offset, pty }: { readonly pid: number; readonly offset: number; readonly pty: boolean }): void {
    this.#guest = guest;
    this.#pid = pid;
    this.#pty = pty;
    this.#tail = new OutputTail(PROCESS_OUTPUT_BYTES, offset);
  }

  info(): ProcessInfo {
    const { id, note } = this.#parts;
    const { from, to } = this.#tail;
    const startedAt = new Date(note.startedAt).toISOString();
    return { id, command: note.command, pid: this.#pid, pty: this.#pty, startedAt, output: { from, to }, end: this.#end ?? null };
  }

  async *output({ from, hold = false, signal }: OutputOptions & CallOptions): AsyncGenerator<ProcessOutput> {
    const reader = { at: from ?? this.#tail.from };
    const { at } = reader;
    if (at > this.#tail.to)
      throw new CorralError("request_invalid", `from: there is no byte ${at} yet; the output of ${this.id} ends at ${this.#tail.to}`);
    if (hold) this.#holders.add(reader);
    try {
      yield* this.#follow(reader, signal);
    } finally {
      this.#holders.delete(reader);
      this.#pace.settle();
    }
  }

  async *#follow(reader: Reader, signal: AbortSignal | undefined): AsyncGenerator<ProcessOutput> {
    for (;;) {
      demandWanted(signal, "the reader of the output went away");
      const piece = this.#tail.at(reader.at);
      if (piece !== undefined) {
        if (piece.offset > reader.at) yield { kind: "gap", offset: piece.offset };
        yield { kind: piece.stream, offset: piece.offset, bytes: piece.bytes };
        reader.at = piece.offset + piece.bytes.length; // taken when more is asked for
        this.#pace.settle();
      } else if (this.#lost !== undefined) throw this.#lost;
      else if (this.#end !== undefined) {
        yield { kind: "end", process: this.info() };
        return;
      } else await this.#bell.wait(signal);
    }
  }

  /** An abort ends the waiting: what was handed over is on its way all the same. */
  async write(bytes: Uint8Array, { end = false, signal }: { readonly end?: boolean; readonly signal?: AbortSignal }): Promise<void> {
    const guest = this.#running();
    if (this.#waitingStdin + bytes.length > MAX_WAITING_STDIN_BYTES && this.#waitingStdin > 0)
      throw new CorralError("limit_reached", `${this.#waitingStdin} bytes of stdin wait for ${this.id} already; it does not read them`);
    const written = guest.write(bytes);
    if (end) guest.closeStdin();
    this.#waitingStdin += bytes.length;
    const done = written.finally(() => (this.#waitingStdin -= bytes.length));
    const { promise: aborted, resolve: abort } = Promise.withResolvers<void>();
    const leave = (): void => abort();
    signal?.addEventListener("abort", leave);
    await Promise.race([done, aborted]);
    signal?.removeEventListener("abort", leave);
    demandWanted(signal, "who wrote to the process went away");
  }

  signal(number: number, tree: boolean): void {
    this.#running().signal(number, tree);
  }

  resize(rows: number, cols: number): void {
    if (!this.#pty) throw new CorralError("request_invalid", `the process ${this.id} has no terminal; start it with pty`);
    this.#running().resize(rows, cols);
  }

  stop(): void {
    if (this.#end === undefined && this.#lost === undefined) this.#guest?.stop();
  }

  /** No ladder: each second of grace is a second of writing past the limit. */
  killFor(limit: LimitHit): void {
    if (this.#limitHit !== null || this.#end !== undefined) return;
    this.#limitHit = limit;
    this.#guest?.signal(constants.signals.SIGKILL, true);
  }

  /** Until it has ended, or `signal` aborts. */
  async wait(signal?: AbortSignal): Promise<ProcessInfo> {
    for (;;) {
      if (this.#end !== undefined || signal?.aborted === true) return this.info();
      if (this.#lost !== undefined) throw this.#lost;
      await this.#bell.wait(signal);
    }
  }

  #running(): GuestProcess {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#end !== undefined || this.#guest === undefined)
      throw new CorralError("process_ended", `the process ${this.id} has ended and takes nothing more`);
    return this.#guest;
  }

  #take(stream: "stdout" | "stderr", chunk: Uint8Array): boolean {
    this.#tail.add(stream, chunk);
    this.#bell.ring();
    return this.#pace.take(chunk.length);
  }

  #ended(exit: GuestExit): void {
    const { clock, onEnd } = this.#parts;
    this.#end = {
      exitCode: exitCode(exit),
      signal: signalName(exit.signal),
      timedOut: exit.timedOut || exit.idle,
      limitHit: this.#limitHit ?? (exit.memoryHit ? "memory" : exit.pidsHit ? "pids" : null),
      cpuMs: exit.cpuUs / 1000,
      maxRssBytes: exit.maxRssBytes,
      endedAt: new Date(clock.wallMs()).toISOString(),
    };
    this.#pace.stop();
    this.#bell.ring();
    onEnd();
  }

  #lose(reason: string): void {
    this.#lost = new CorralError("sandbox_lost", `the sandbox ended while the process ran: ${reason}`);
    this.#pace.stop();
    this.#bell.ring();
    this.#parts.onEnd();
  }
}
