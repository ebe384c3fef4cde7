// Which turn begins next. Pure: time is handed in. Not a store: what waits is in the database, this is its order in one process.
// Invariant: of a session turns begin in the order they came, one at a time; between owners of equal rank they begin in turn; rank grows by
// waiting, so nothing waits for ever.

export interface Waiting {
  readonly id: string;
  readonly sessionId: string;
  readonly ownerId: string;
  /** 0-100, higher first. */
  readonly priority: number;
  /** Monotonic. */
  readonly since: number;
}

export interface QueueBounds {
  readonly concurrency: number;
  readonly perOwner: number;
}

/** Waiting so long is worth one step of priority. */
const STEP_MS = 10_000;

export class TurnQueue {
  readonly #bounds: QueueBounds;
  /** By session, in the order they came. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #running = new Map<string, Waiting>();
  readonly #ofOwner = new Map<string, number>();
  /** When each owner last had a turn begun, in begun turns. */
  readonly #served = new Map<string, number>();
  #begun = 0;
  #size = 0;

  constructor(bounds: QueueBounds) {
    this.#bounds = bounds;
  }

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  add(turn: Waiting): void {
    const line = this.#waiting.get(turn.sessionId);
    if (line === undefined) this.#waiting.set(turn.sessionId, [turn]);
    else line.push(turn);
    this.#size += 1;
  }

  /** True: it waited here. */
  remove(id: string): boolean {
    for (const [sessionId, line] of this.#waiting) {
      const at = line.findIndex((turn) => turn.id === id);
      if (at < 0) continue;
      line.splice(at, 1);
      if (line.length === 0) this.#waiting.delete(sessionId);
      this.#size -= 1;
      return true;
    }
    return false;
  }

  /** The next to begin, which is now running; `undefined`: none may. */
  take(now: number): Waiting | undefined {
    if (this.#running.size >= this.#bounds.concurrency) return undefined;
    let best: Waiting | undefined;
    for (const [sessionId, [first]] of this.#waiting) {
      if (first === undefined || this.#running.has(sessionId)) continue;
      if ((this.#ofOwner.get(first.ownerId) ?? 0) >= this.#bounds.perOwner) continue;
      if (best === undefined || this.#before(first, best, now)) best = first;
    }
    if (best === undefined) return undefined;
    this.remove(best.id);
    this.#running.set(best.sessionId, best);
    this.#ofOwner.set(best.ownerId, (this.#ofOwner.get(best.ownerId) ?? 0) + 1);
    this.#served.set(best.ownerId, ++this.#begun);
    return best;
  }

  /** It ended, or it waits for a person. */
  done({ sessionId, ownerId }: Waiting): void {
    this.#running.delete(sessionId);
    const left = (this.#ofOwner.get(ownerId) ?? 1) - 1;
    if (left > 0) this.#ofOwner.set(ownerId, left);
    else this.#ofOwner.delete(ownerId);
    // Who has nothing here any more is forgotten, and comes as one who was never served.
    if (left <= 0 && this.#served.size > 10_000) this.#served.delete(ownerId);
  }

  #before(one: Waiting, other: Waiting, now: number): boolean {
    const rank = ({ priority, since }: Waiting): number => priority + Math.floor((now - since) / STEP_MS);
    const ranks = rank(one) - rank(other);
    if (ranks !== 0) return ranks > 0;
    const served = (this.#served.get(one.ownerId) ?? 0) - (this.#served.get(other.ownerId) ?? 0);
    return served === 0 ? one.since < other.since : served < 0;
  }
}
