// Keys: who issues them, who sees them. What a key may do elsewhere is asked where it is done.
// Invariant: only a key of scope admin issues keys or acts for another owner; a secret is in one answer, that of its issue.

import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { IssuedToken, IssueTokenBody, ListOf, TokenResource } from "../api/server.ts";
import type { Clock } from "../base/clock.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";
import type { Keys } from "./keys.ts";

export class Tokens {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #keys: Keys;

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }, keys: Keys) {
    this.#store = store;
    this.#clock = clock;
    this.#keys = keys;
  }

  async issue(asking: Token, { expiresInMs, sandboxId, ...body }: IssueTokenBody): Promise<IssuedToken> {
    demandAdmin(asking);
    const now = this.#clock.wallMs();
    const { token, secret } = await this.#store.tokens.issue({
      ...body,
      now,
      ...(sandboxId === undefined ? {} : { sandboxId }),
      ...(expiresInMs === undefined ? {} : { expiresAt: now + expiresInMs }),
    });
    await this.#event("token-issue", token.ownerId, token.id);
    return { ...resource(token), secret };
  }

  async list(asking: Token, ownerId?: string): Promise<ListOf<TokenResource>> {
    return { items: (await this.#store.tokens.list(whose(asking, ownerId))).map(resource) };
  }

  async revoke(asking: Token, id: string, ownerId?: string): Promise<boolean> {
    const owner = whose(asking, ownerId);
    if (!isId("token", id)) return false;
    const revoked = await this.#store.tokens.revoke(owner, id, this.#clock.wallMs());
    this.#keys.forget(id);
    if (revoked) await this.#event("token-revoke", owner, id);
    return revoked;
  }

  async #event(kind: string, ownerId: string, subjectId: string): Promise<void> {
    await this.#store.events.append({ at: this.#clock.wallMs(), ownerId, kind, subjectId, data: {} });
  }
}

function demandAdmin({ scope }: Token): void {
  if (scope !== "admin") throw new CorralError("forbidden", "keys are issued by a key of scope admin");
}

function whose(token: Token, ownerId: string = token.ownerId): string {
  if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox sees no keys");
  if (ownerId !== token.ownerId) demandAdmin(token);
  return ownerId;
}

function resource({ createdAt, expiresAt, ...rest }: Token): TokenResource {
  const until = expiresAt === null ? null : new Date(expiresAt).toISOString();
  return { ...rest, createdAt: new Date(createdAt).toISOString(), expiresAt: until };
}
