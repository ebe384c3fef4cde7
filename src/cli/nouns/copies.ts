// What copies in both directions share. Invariant: what is left out of a copy is told, the first of it by name.

export interface Left {
  readonly path: string;
  readonly why: string;
}

export interface Copied {
  readonly copied: number;
  /** The first MAX_LEFT. */
  readonly left: readonly Left[];
}

const MAX_LEFT = 20;
/** Files on their way at once. */
const AT_ONCE = 8;

export class Tally {
  copied = 0;
  readonly #left: Left[] = [];
  #more = 0;

  leave(path: Buffer, why: string): void {
    if (this.#left.length < MAX_LEFT) this.#left.push({ path: path.toString("utf8"), why });
    else this.#more += 1;
  }

  get all(): Copied {
    const rest = this.#more === 0 ? [] : [{ path: `${this.#more} more`, why: "for such reasons" }];
    return { copied: this.copied, left: [...this.#left, ...rest] };
  }
}

/** Runs what it is given, some at a time; the first failure ends it. */
export class Lanes {
  readonly #running = new Set<Promise<void>>();
  #failed: { readonly error: unknown } | undefined;

  async add(act: () => Promise<void>): Promise<void> {
    while (this.#running.size >= AT_ONCE) await Promise.race(this.#running);
    this.#demandWhole();
    const run: Promise<void> = act()
      .catch((error: unknown) => void (this.#failed ??= { error }))
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  async end(): Promise<void> {
    await Promise.all(this.#running);
    this.#demandWhole();
  }

  #demandWhole(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}
