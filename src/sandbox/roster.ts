// All kept commands of one sandbox, processes and shells together: how many there may be, and when an ended one is forgotten.
// Invariant: no more than MAX_KEPT_COMMANDS stand in it, the guest's own bound; one that lives is never forgotten.

import { CorralError } from "../api/errors.ts";
import { ENDED_COMMAND_MS, MAX_ENDED_COMMANDS, MAX_KEPT_COMMANDS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";

interface Entry {
  readonly forget: () => void;
  endedMs: number | undefined;
}

export class Roster {
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `forget` is called when it is to be let go of. Throws `limit_reached`. */
  add(id: string, forget: () => void): void {
    if (this.#entries.size >= MAX_KEPT_COMMANDS && !this.#forgetOldest())
      throw new CorralError(
        "limit_reached",
        `the sandbox has ${MAX_KEPT_COMMANDS} processes and shells that live, which is the limit; stop one first`,
      );
    this.#entries.set(id, { forget, endedMs: undefined });
  }

  ended(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.endedMs = this.#clock.monotonicMs();
    if (this.#ended().length > MAX_ENDED_COMMANDS) this.#forgetOldest();
    this.#arm();
  }

  /** It never began. */
  remove(id: string): void {
    this.#entries.delete(id);
  }

  /** The sandbox is gone. */
  close(): void {
    clearTimeout(this.#timer);
    this.#entries.clear();
  }

  #ended(): readonly (readonly [string, number])[] {
    return [...this.#entries].flatMap(([id, { endedMs }]) => (endedMs === undefined ? [] : [[id, endedMs] as const]));
  }

  #forgetOldest(): boolean {
    const [oldest] = this.#ended().toSorted(([, one], [, other]) => one - other);
    if (oldest !== undefined) this.#forget(oldest[0]);
    return oldest !== undefined;
  }

  #forget(id: string): void {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    entry?.forget();
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const now = this.#clock.monotonicMs();
      for (const [id, endedMs] of this.#ended()) if (now - endedMs >= ENDED_COMMAND_MS) this.#forget(id);
      if (this.#ended().length > 0) this.#arm();
    }, ENDED_COMMAND_MS / 2).unref();
  }
}
