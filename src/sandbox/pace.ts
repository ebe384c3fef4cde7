// How fast output is read that nobody waits for: so much for each pause, or one flood would cost the server a core.
// Invariant: every byte is credited in the end, as long as there is somebody to credit.

/** Bytes within a pause that are credited at once. */
const UNPACED_BYTES = 512 * 1024;
const PAUSE_MS = 10;

export class Pace {
  readonly #credit: (bytes: number) => void;
  #taken = 0;
  #owed = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(credit: (bytes: number) => void) {
    this.#credit = credit;
  }

  /** Whether the bytes may be credited now; else that follows. */
  take(bytes: number): boolean {
    this.#taken += bytes;
    this.#timer ??= setTimeout(() => this.#next(), PAUSE_MS).unref();
    if (this.#taken <= UNPACED_BYTES) return true;
    this.#owed += bytes;
    return false;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #next(): void {
    const owed = this.#owed;
    this.#timer = undefined;
    this.#taken = this.#owed = 0;
    if (owed > 0) this.#credit(owed);
  }
}
