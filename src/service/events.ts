// What happened, for whoever may know: pages of what is kept, and followers who wait for more. Events are written by the nouns; here they
// are only read. Invariant: a follower holds one page at most, so a slow one costs no memory; it is told each event once, in order.

import type { EventFilter, EventResource } from "../api/events.ts";
import { CorralError } from "../api/errors.ts";
import { EVENT_BEAT_MS, EVENT_POLL_MS, MAX_FOLLOWERS, MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { ListOf } from "../api/server.ts";
import type { Clock } from "../base/clock.ts";
import type { After, StoredEvent } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";

export interface EventRequest extends EventFilter {
  /** Behind this one. */
  readonly after?: string;
  readonly limit?: number;
}

/** Two servers on one database may commit out of order: events are told when they are old enough for the order to stand. */
const SETTLED_MS = 500;

export class Events implements Disposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  /** Followers, by owner. */
  readonly #followers = new Map<string, number>();
  readonly #end = new AbortController();

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** The store for nouns that write events: followers of this process learn of one at once, those of others when they look again. */
  waking(): Store {
    const { events } = this.#store;
    const append: typeof events.append = async (record) => {
      const seq = await events.append(record);
      for (const wake of this.#waiting) wake();
      return seq;
    };
    return { ...this.#store, events: { ...events, append } };
  }

  async list(token: Token, request: EventRequest = {}): Promise<ListOf<EventResource>> {
    const limit = Math.min(request.limit ?? MAX_PAGE_ITEMS, MAX_PAGE_ITEMS);
    const found = await this.#page({ ...scopeOf(token, request), seq: seqOf(request.after ?? "0"), limit });
    const items = found.map(resource);
    const last = items.at(-1);
    return items.length < limit || last === undefined ? { items } : { items, next: last.id };
  }

  /** First the id to go on from; `undefined` where nothing came for a while. It ends with the signal, or when the server does. */
  async *follow(token: Token, request: EventRequest, signal: AbortSignal): AsyncGenerator<EventResource | string | undefined> {
    const scope = scopeOf(token, request);
    using _ = this.#count(token);
    let seq = request.after === undefined ? await this.#store.events.last() : seqOf(request.after);
    yield String(seq);
    let beatMs = this.#clock.monotonicMs();
    const ended = AbortSignal.any([signal, this.#end.signal]);
    while (!ended.aborted) {
      const woken = this.#woken(ended);
      const found = await this.#page({ ...scope, seq });
      for (const event of found) {
        seq = event.seq;
        yield resource(event);
        if (ended.aborted) return;
      }
      const now = this.#clock.monotonicMs();
      if (found.length > 0) beatMs = now;
      else if (now - beatMs >= EVENT_BEAT_MS) {
        beatMs = now;
        yield undefined;
      } else await woken;
    }
  }

  [Symbol.dispose](): void {
    this.#end.abort();
  }

  async #page(request: After): Promise<readonly StoredEvent[]> {
    const found = await this.#store.events.after(request);
    if (this.#store.kind === "sqlite") return found;
    const settled = this.#clock.wallMs() - SETTLED_MS;
    const young = found.findIndex(({ at }) => at > settled);
    return young === -1 ? found : found.slice(0, young);
  }

  /** When an event was written, after a while, or at the end. */
  #woken(ended: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => {
      clearTimeout(timer);
      this.#waiting.delete(wake);
      ended.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, EVENT_POLL_MS);
    this.#waiting.add(wake);
    ended.addEventListener("abort", wake);
    return promise;
  }

  #count({ ownerId }: Token): Disposable {
    const following = this.#followers.get(ownerId) ?? 0;
    if (following >= MAX_FOLLOWERS)
      throw new CorralError("limit_reached", `${ownerId} follows events ${MAX_FOLLOWERS} times already, which is the limit; end one first`);
    this.#followers.set(ownerId, following + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#followers.get(ownerId) ?? 1) - 1;
        if (left === 0) this.#followers.delete(ownerId);
        else this.#followers.set(ownerId, left);
      },
    };
  }
}

function scopeOf({ scope, ownerId, sandboxId: own }: Token, { kinds, sandboxId }: EventRequest): Omit<After, "seq"> {
  // SAFETY: a key for one sandbox is told of that sandbox alone, whatever it asks for.
  if (scope === "sandbox" && sandboxId !== undefined && sandboxId !== own)
    throw new CorralError("forbidden", "a key for one sandbox follows that sandbox alone");
  const subjectId = scope === "sandbox" ? (own ?? "") : sandboxId;
  return {
    ...(scope === "admin" ? {} : { ownerId }),
    ...(subjectId === undefined ? {} : { subjectId }),
    ...(kinds === undefined || kinds.length === 0 ? {} : { kinds }),
  };
}

function seqOf(id: string): number {
  if (!/^\d{1,15}$/.test(id)) throw new CorralError("request_invalid", "after: not the id of an event; begin again without it");
  return Number(id);
}

function resource({ seq, at, kind, ownerId, subjectId, data }: StoredEvent): EventResource {
  return { id: String(seq), at: new Date(at).toISOString(), kind, ownerId, subjectId, data };
}
