// What this server holds: its living sandboxes, by id, whether their processes run, stand still or wait as a delta on disk. Not the rows
// of the store: those outlive it. Invariant: of one sandbox at most one change of state is under way; who comes later waits its turn.

import type { RuntimeName, Sandbox } from "../api/sandbox.ts";

export interface HeldSandbox {
  readonly ownerId: string;
  readonly runtime: RuntimeName;
  /** Absent: paused without its processes. */
  sandbox: Sandbox | undefined;
  /** Since when it is paused with its processes, wall clock, ms. */
  frozenAt: number | undefined;
}

export class Held {
  readonly #sandboxes = new Map<string, HeldSandbox>();
  /** The end of what is under way for an id. */
  readonly #turns = new Map<string, Promise<void>>();

  get(id: string): HeldSandbox | undefined {
    return this.#sandboxes.get(id);
  }

  add(id: string, held: Omit<HeldSandbox, "frozenAt">): void {
    this.#sandboxes.set(id, { ...held, frozenAt: undefined });
  }

  remove(id: string): void {
    this.#sandboxes.delete(id);
  }

  all(): readonly (readonly [string, HeldSandbox])[] {
    return [...this.#sandboxes];
  }

  countOf(ownerId: string): number {
    return this.all().filter(([, held]) => held.ownerId === ownerId).length;
  }

  async inTurn<T>(id: string, act: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    const mine = before.then(act);
    const end = mine.then(
      () => undefined,
      () => undefined,
    );
    this.#turns.set(id, end);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(id) === end) this.#turns.delete(id);
    }
  }
}
