// Who a key stands for, asked at every call: answers are remembered for a moment, so that a call costs no query. What a key may do is
// asked where it is done. Invariant: a key that was revoked or has expired opens nothing any more - at once where this process revoked it,
// within a second where another one did - and a call under way with it is cut within a second; a store that is silent confirms nothing.

import { hash } from "node:crypto";
import { KEY_CHECK_MS, KEY_MEMORY, KEY_MEMORY_MS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";

interface Known {
  readonly token: Token;
  /** Monotonic, ms; counted from before the store was asked. */
  readonly until: number;
}

interface OpenCall {
  readonly tokenId: string;
  readonly sinceMs: number;
  readonly cut: () => void;
}

/** Checks in a row without an answer after which open calls are cut. Counted, not timed: a busy process is no revocation. */
const MAX_MISSES = 3;

export class Keys implements Disposable {
  readonly #store: Store;
  readonly #clock: Clock;
  /** By hash of the secret, oldest first. The secret is kept nowhere. */
  readonly #known = new Map<string, Known>();
  /** Tokens that held when `holds` asked, until when. */
  readonly #holding = new Map<string, number>();
  readonly #open = new Set<OpenCall>();
  readonly #timer: NodeJS.Timeout;
  /** Rises with each revocation: what was asked before one is not believed after it. */
  #revocations = 0;
  #asking = false;
  #misses = 0;

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
    this.#timer = setInterval(() => this.#tick(), KEY_CHECK_MS).unref();
  }

  /** The token that a secret stands for; `undefined` when it holds no more or never did. */
  async find(secret: string): Promise<Token | undefined> {
    const digest = hash("sha256", secret);
    const now = this.#clock.monotonicMs();
    const known = this.#known.get(digest);
    if (known !== undefined && now < known.until) return isExpired(known.token, this.#clock.wallMs()) ? undefined : known.token;
    const revocations = this.#revocations;
    const token = await this.#store.tokens.find(secret, this.#clock.wallMs());
    if (revocations !== this.#revocations) return await this.find(secret);
    this.#known.delete(digest);
    if (token !== undefined) this.#remember(digest, { token, until: now + KEY_MEMORY_MS });
    return token;
  }

  /** Whether it held when it was last asked for. It opens nothing: `find` looks each time. */
  heldLately(secret: string): boolean {
    return this.#known.has(hash("sha256", secret));
  }

  /** Whether a token that was found earlier still holds. */
  async holds(token: Token): Promise<boolean> {
    const now = this.#clock.monotonicMs();
    if (isExpired(token, this.#clock.wallMs())) return false;
    if ((this.#holding.get(token.id) ?? 0) > now) return true;
    const revocations = this.#revocations;
    const holds = (await this.#store.tokens.holding([token.id], this.#clock.wallMs())).has(token.id);
    if (revocations !== this.#revocations) return await this.holds(token);
    if (this.#holding.size >= KEY_MEMORY) this.#holding.clear();
    if (holds) this.#holding.set(token.id, now + KEY_MEMORY_MS);
    return holds;
  }

  /** Called by whoever revoked it. Calls under way have until the next look, so that who gives up their own key is answered. */
  forget(tokenId: string): void {
    this.#revocations += 1;
    this.#holding.delete(tokenId);
    for (const [digest, { token }] of this.#known) if (token.id === tokenId) this.#known.delete(digest);
  }

  /** A call that is under way: `cut` is called when its key holds no more. Dispose of it when the call ends. */
  hold({ id: tokenId }: Token, cut: () => void): Disposable {
    const call = { tokenId, cut, sinceMs: this.#clock.monotonicMs() };
    this.#open.add(call);
    return { [Symbol.dispose]: () => void this.#open.delete(call) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #remember(digest: string, known: Known): void {
    const [oldest] = this.#known.keys();
    if (oldest !== undefined && this.#known.size >= KEY_MEMORY) this.#known.delete(oldest);
    this.#known.set(digest, known);
  }

  #cut(calls: readonly OpenCall[]): void {
    for (const call of calls) {
      this.#open.delete(call);
      call.cut();
    }
  }

  /** Looks at calls that are older than what `find` remembers for them. */
  #tick(): void {
    const before = this.#clock.monotonicMs() - KEY_CHECK_MS;
    const calls = [...this.#open].filter(({ sinceMs }) => sinceMs <= before);
    if (calls.length === 0 && !this.#asking) return;
    if (this.#asking) this.#miss(calls);
    else void this.#check(calls);
  }

  async #check(calls: readonly OpenCall[]): Promise<void> {
    this.#asking = true;
    try {
      const ids = [...new Set(calls.map(({ tokenId }) => tokenId))];
      const holding = await this.#store.tokens.holding(ids, this.#clock.wallMs());
      this.#misses = 0;
      this.#cut(calls.filter((call) => this.#open.has(call) && !holding.has(call.tokenId)));
    } catch {
      this.#miss(calls);
    } finally {
      this.#asking = false;
    }
  }

  #miss(calls: readonly OpenCall[]): void {
    this.#misses += 1;
    if (this.#misses >= MAX_MISSES) this.#cut(calls.filter((call) => this.#open.has(call)));
  }
}

function isExpired({ expiresAt }: Token, now: number): boolean {
  return expiresAt !== null && expiresAt <= now;
}
