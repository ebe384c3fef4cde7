// The kept commands of one kind, processes or shells, by their ids: begun, taken up after a server's death, found, let go of.
// Not what a command is, nor how many there may be in all: roster.ts. Invariant: an id stands for one command for ever; what did not begin
// is in no list and holds no place.

import { CorralError } from "../api/errors.ts";
import { KILL_GRACE_MS } from "../api/limits.ts";
import type { LimitHit } from "../api/limit-hit.ts";
import type { Clock } from "../base/clock.ts";
import type { Container, GuestAttach, GuestExec, GuestExit, GuestProcess, GuestSinks } from "../runtime/runtime.ts";
import type { Roster } from "./roster.ts";

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

/** A command that outlives its callers. */
export interface Kept {
  readonly sinks: GuestSinks;
  killFor(limit: LimitHit): void;
}

/** Makes the thing that stands for a command; `onEnd` is called once, when that has ended. */
type Make<T> = (onEnd: () => void) => T;

export interface Beginning<T> {
  readonly make: Make<T>;
  readonly exec: Pick<GuestExec, "argv" | "note" | "env" | "cwd" | "stdin" | "pty" | "timeoutMs" | "control">;
  readonly runs: (kept: T, guest: GuestProcess, pid: number) => void;
  /** Why it could not be started. */
  readonly startError: (exit: GuestExit) => CorralError;
  /** Resolves when it may be listed; throws for one that is not what it should be. */
  readonly whole?: (kept: T) => Promise<void>;
}

export interface TakingUp<T> {
  readonly make: Make<T>;
  /** Of the first byte of output that is wanted. */
  readonly offset: number;
  readonly runs: (kept: T, guest: GuestProcess, command: Parameters<GuestAttach["onAttached"]>[0]) => void;
}

export class KeptSet<T extends Kept> {
  readonly #context: KeptContext;
  /** For errors: what one of them is called. */
  readonly #noun: "process" | "shell";
  readonly #kept = new Map<string, T>();

  constructor(context: KeptContext, noun: "process" | "shell") {
    this.#context = context;
    this.#noun = noun;
  }

  async begin(id: string, { make, exec, runs, startError, whole }: Beginning<T>): Promise<T> {
    const { container, roster } = this.#context;
    const { kept, release } = this.#make(id, make);
    const began = Promise.withResolvers<void>();
    const { sinks } = kept;
    try {
      const guest = container.exec({
        ...sinks,
        ...exec,
        ...{ key: id, idleTimeoutMs: 0, graceMs: KILL_GRACE_MS, outputBytes: 0 },
        onStarted: (pid) => {
          runs(kept, guest, pid);
          if (whole === undefined) this.#kept.set(id, kept);
          began.resolve();
        },
        onExit: (exit) => (exit.startErrno === 0 ? sinks.onExit(exit) : began.reject(startError(exit))),
        onLost: (reason) => {
          sinks.onLost(reason);
          began.reject(new CorralError("sandbox_lost", `the sandbox ended before the ${this.#noun} ran: ${reason}`));
        },
      });
      await began.promise;
      await whole?.(kept);
    } catch (error) {
      roster.remove(id);
      release();
      throw error;
    }
    if (whole !== undefined) this.#kept.set(id, kept);
    return kept;
  }

  /** One that an earlier server began; nothing when the guest no longer has it. */
  async takeUp(id: string, { make, offset, runs }: TakingUp<T>): Promise<void> {
    const { container, roster } = this.#context;
    const { kept, release } = this.#make(id, make);
    const { sinks } = kept;
    const found = Promise.withResolvers<void>();
    const guest = container.attach(id, offset, {
      ...sinks,
      onAttached: (command) => {
        runs(kept, guest, command);
        this.#kept.set(id, kept);
        found.resolve();
      },
      onUnknown: () => {
        roster.remove(id);
        release();
        found.resolve();
      },
      onLost: (reason) => {
        sinks.onLost(reason);
        found.resolve();
      },
    });
    await found.promise;
  }

  list(): readonly T[] {
    return [...this.#kept.values()];
  }

  /** Throws `process_not_found` or `shell_not_found`. */
  find(id: string): T {
    const kept = this.#kept.get(id);
    if (kept === undefined)
      throw new CorralError(`${this.#noun}_not_found`, `there is no ${this.#noun} ${id}: it never was, or it ended and was forgotten`);
    return kept;
  }

  /** Takes its place among all kept commands. */
  #make(id: string, make: Make<T>): { readonly kept: T; readonly release: () => void } {
    const { roster, guard, forget } = this.#context;
    roster.add(id, () => {
      this.#kept.delete(id);
      forget(id);
    });
    const release = guard((limit) => kept.killFor(limit));
    const kept = make(() => {
      release();
      roster.ended(id);
    });
    return { kept, release };
  }
}
