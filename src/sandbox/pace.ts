// How fast output is read: so much for each pause, or one flood that nobody waits for would cost the server a core; and no faster than a
// reader who asks to be waited for. Invariant: every byte is credited in the end, as long as there is somebody to credit.

/** Bytes within a pause that are credited at once. */
const UNPACED_BYTES = 512 * 1024;
const PAUSE_MS = 10;

interface PaceParts {
  readonly credit: (bytes: number) => void;
  /** Bytes that the slowest of those who are waited for has not taken; default: nobody is waited for. */
  readonly behind?: () => number;
}

export class Pace {
  readonly #credit: (bytes: number) => void;
  readonly #behind: () => number;
  #taken = 0;
  #owed = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ credit, behind = () => 0 }: PaceParts) {
    this.#credit = credit;
    this.#behind = behind;
  }

  /** Whether the bytes, which are kept already, may be credited now; else that follows. */
  take(bytes: number): boolean {
    this.#taken += bytes;
    this.#timer ??= setTimeout(() => this.#next(), PAUSE_MS).unref();
    if (this.#taken <= UNPACED_BYTES && this.#behind() === 0) return true;
    this.#owed += bytes;
    return false;
  }

  /** A reader has taken something, or is no longer waited for. */
  settle(): void {
    if (this.#taken > UNPACED_BYTES) return; // at the next pause
    const due = this.#owed - this.#behind();
    if (due <= 0) return;
    this.#owed -= due;
    this.#credit(due);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #next(): void {
    this.#timer = undefined;
    this.#taken = 0;
    this.settle();
  }
}
