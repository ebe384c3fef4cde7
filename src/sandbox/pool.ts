// Sandboxes that are started ahead, by kind: how many wait, which is given to whom asks, and when one goes. Not what a warm sandbox is
// (warm.ts) and not who may have one. Invariant: one is given away at most once and never comes back; at most `max` wait or are being
// started, whatever is asked; who finds none waits for nothing.

import type { PoolFigures, PoolPlan, WarmPool } from "../api/corral.ts";
import type { Clock } from "../base/clock.ts";
import type { Workshop } from "./workshop.ts";
import { endWarm, startWarm, type Warm, type WarmKind } from "./warm.ts";

const SWEEP_MS = 10_000;
const LEAST_SWEEP_MS = 100;
/** One that waited for so long is started anew: what it shows of the machine is as old. */
const MAX_AGE_MS = 3_600_000;
/** Without a miss for so long, fewer are kept. */
const QUIET_MS = 300_000;
/** After it one of a kind makes room for one of another. */
const UNUSED_MS = 30_000;
/** After one was asked for. */
const AFTER_MS = 25;
/** After a start that failed. */
const RETRY_MS = 30_000;
/** PID 1 of one in which nothing runs answers at once. */
const PING_MS = 2_000;

interface Kind {
  readonly what: WarmKind;
  /** The last is the youngest. */
  readonly ready: Warm[];
  target: number;
  askedMs: number;
  missedMs: number;
  retryMs: number;
}

interface Seat {
  readonly shop: Workshop;
  readonly warm: Warm;
}

export interface PoolParts extends PoolPlan {
  readonly clock: Clock;
  /** Of the runtime that a sandbox gets which asks for none. */
  readonly shop: () => Promise<Workshop>;
}

export class Pool implements WarmPool, AsyncDisposable {
  readonly #parts: PoolParts;
  readonly #kinds = new Map<string, Kind>();
  readonly #seats = new Map<string, Seat>();
  readonly #timer: NodeJS.Timeout;
  #shop: Workshop | undefined;
  #starting = 0;
  #filling: Promise<void> | undefined;
  /** Ends that are under way. */
  readonly #ending = new Set<Promise<void>>();
  #hits = 0;
  #misses = 0;
  #discarded = 0;
  #closed = false;

  constructor(parts: PoolParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => this.#sweep(), Math.max(LEAST_SWEEP_MS, Math.min(SWEEP_MS, parts.idleMs)));
    this.#timer.unref();
  }

  take(name: string): string | undefined {
    const warm = this.#kinds.get(name)?.ready.shift();
    if (warm === undefined || this.#shop === undefined) return undefined;
    this.#seats.set(warm.id, { shop: this.#shop, warm });
    return warm.id;
  }

  drop(id: string): void {
    const seat = this.#seats.get(id);
    if (seat === undefined) return;
    this.#seats.delete(id);
    this.#end(seat);
  }

  /** The one behind an id that was taken, for good. */
  claim(id: string): Warm | undefined {
    const seat = this.#seats.get(id);
    this.#seats.delete(id);
    return seat?.warm;
  }

  want(name: string, what: WarmKind, isHit: boolean): void {
    if (this.#closed || this.#parts.perTemplate === 0) return;
    const now = this.#parts.clock.monotonicMs();
    const kind = this.#kinds.get(name) ?? {
      what,
      ready: [],
      target: this.#parts.perTemplate,
      askedMs: now,
      missedMs: now,
      retryMs: -Infinity,
    };
    const isNew = !this.#kinds.has(name);
    this.#kinds.set(name, kind);
    kind.askedMs = now;
    if (isHit) this.#hits++;
    else {
      this.#misses++;
      kind.missedMs = now;
      // The first of a kind cannot have been known.
      if (!isNew) kind.target = Math.min(kind.target * 2, this.#parts.max);
    }
    // The first command of the one that was asked for goes first.
    setTimeout(() => this.#fill(), AFTER_MS).unref();
  }

  async forget(name: string): Promise<void> {
    const kind = this.#kinds.get(name);
    this.#kinds.delete(name);
    await this.#filling; // one that is being started now belongs to no kind any more, and is ended by that
    this.#endAll(kind?.ready.splice(0) ?? []);
    await Promise.allSettled(this.#ending);
  }

  figures(): PoolFigures {
    return { ready: this.#ready(), hits: this.#hits, misses: this.#misses, discarded: this.#discarded };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#filling;
    for (const { ready } of this.#kinds.values()) this.#endAll(ready.splice(0));
    for (const id of [...this.#seats.keys()]) this.drop(id);
    this.#kinds.clear();
    await Promise.allSettled(this.#ending);
  }

  #ready(): number {
    return [...this.#kinds.values()].reduce((sum, { ready }) => sum + ready.length, 0);
  }

  /** One start at a time: whoever asked is served before what nobody asked for. */
  #fill(): void {
    this.#filling ??= this.#fillNow().finally(() => (this.#filling = undefined));
  }

  async #fillNow(): Promise<void> {
    for (;;) {
      const next = this.#next();
      if (next === undefined) return;
      const [name, kind] = next;
      this.#starting++;
      try {
        const shop = await this.#parts.shop();
        if (!shop.runtime.late) {
          this.#kinds.clear();
          return;
        }
        this.#shop = shop;
        this.#put({ shop, warm: await startWarm(shop, kind.what) }, name, kind);
      } catch {
        kind.retryMs = this.#parts.clock.monotonicMs() + RETRY_MS; // whoever creates one meanwhile is told why it fails
      } finally {
        this.#starting--;
      }
    }
  }

  #next(): [string, Kind] | undefined {
    if (this.#closed) return undefined;
    const now = this.#parts.clock.monotonicMs();
    const next = [...this.#kinds].find(([, { ready, target, retryMs }]) => ready.length < target && retryMs <= now);
    if (next === undefined || this.#ready() + this.#starting < this.#parts.max) return next;
    // Full: one that nobody asked for lately makes room for the first of a kind that has none.
    if (next[1].ready.length > 0) return undefined;
    const unused = [...this.#kinds.values()].find(({ ready, askedMs }) => ready.length > 0 && now - askedMs > UNUSED_MS);
    if (unused === undefined) return undefined;
    this.#endAll(unused.ready.splice(0, 1));
    return next;
  }

  #put(seat: Seat, name: string, kind: Kind): void {
    if (this.#closed || this.#kinds.get(name) !== kind) return this.#end(seat);
    kind.ready.push(seat.warm);
    // One that dies is not given away.
    void seat.warm.container.lost.then(() => this.#discard(kind, seat));
  }

  #discard(kind: Kind, seat: Seat): void {
    const at = kind.ready.indexOf(seat.warm);
    if (at < 0) return;
    kind.ready.splice(at, 1);
    this.#discarded++;
    this.#end(seat);
    this.#fill();
  }

  #endAll(warms: readonly Warm[]): void {
    for (const warm of warms) if (this.#shop !== undefined) this.#end({ shop: this.#shop, warm });
  }

  /** What cannot be taken away stands in the journal, for the next start. */
  #end({ shop, warm }: Seat): void {
    const ending = endWarm(shop, warm).catch(() => undefined);
    this.#ending.add(ending);
    void ending.then(() => this.#ending.delete(ending));
  }

  #sweep(): void {
    const now = this.#parts.clock.monotonicMs();
    for (const [name, kind] of this.#kinds) {
      if (now - kind.askedMs > this.#parts.idleMs) {
        this.#kinds.delete(name);
        this.#endAll(kind.ready.splice(0));
        continue;
      }
      if (now - kind.missedMs > QUIET_MS) kind.target = Math.max(this.#parts.perTemplate, Math.floor(kind.target * 0.9));
      this.#endAll(kind.ready.splice(kind.target));
      for (const warm of kind.ready) if (this.#shop !== undefined) void this.#look(kind, { shop: this.#shop, warm });
    }
    this.#fill();
  }

  async #look(kind: Kind, seat: Seat): Promise<void> {
    const { warm } = seat;
    const answers = await Promise.race([
      warm.container.ping().then(
        () => true,
        () => false,
      ),
      new Promise<false>((resolve) => setTimeout(resolve, PING_MS, false).unref()),
    ]);
    if (!answers || this.#parts.clock.monotonicMs() - warm.startedMs > MAX_AGE_MS) this.#discard(kind, seat);
  }
}
