// One-time tickets: what a page or a program that can send no header shows instead of a key. Kept in this process's memory.
// Invariant: a ticket opens one thing, once, within half a minute; it is found by its hash, so the time of an answer tells nothing of it;
// their number is bounded.

import { hash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import { MAX_TICKETS_PER_OWNER, TICKET_MS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import { randomText } from "../base/random-text.ts";
import type { Token } from "../store/tokens.ts";

interface Kept<Grant> {
  readonly token: Token;
  readonly grant: Grant;
  /** Monotonic, ms. */
  readonly until: number;
}

const PREFIX = "ct";
const LENGTH = 40;

export class Tickets<Grant> {
  readonly #clock: Clock;
  /** By hash, oldest first. */
  readonly #kept = new Map<string, Kept<Grant>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws `limit_reached`. */
  issue(token: Token, grant: Grant): { readonly ticket: string; readonly expiresInMs: number } {
    const now = this.#clock.monotonicMs();
    this.#forgetOld(now);
    const own = [...this.#kept.values()].filter((kept) => kept.token.ownerId === token.ownerId).length;
    if (own >= MAX_TICKETS_PER_OWNER)
      throw new CorralError("limit_reached", `${token.ownerId} has ${own} tickets that nobody used yet; use them, or wait ${TICKET_MS} ms`);
    const ticket = `${PREFIX}${randomText(LENGTH)}`;
    this.#kept.set(hash("sha256", ticket), { token, grant, until: now + TICKET_MS });
    return { ticket, expiresInMs: TICKET_MS };
  }

  /** What it opens; it opens nothing more. Throws `ticket_invalid`. */
  take(ticket: string): { readonly token: Token; readonly grant: Grant } {
    const digest = hash("sha256", ticket);
    const kept = this.#kept.get(digest);
    this.#kept.delete(digest);
    if (kept === undefined || kept.until <= this.#clock.monotonicMs())
      throw new CorralError("ticket_invalid", "the ticket is unknown, was used, or is older than half a minute; ask for a new one");
    return kept;
  }

  #forgetOld(now: number): void {
    for (const [digest, { until }] of this.#kept) {
      if (until > now) return;
      this.#kept.delete(digest);
    }
  }
}
