// Keys: who issues them, who sees them. What a key may do elsewhere is asked where it is done.
// Invariant: only a key of scope admin issues keys or acts for another owner; a secret is in one answer, that of its issue.

import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { IssuedToken, IssueTokenBody, ListOf, TokenResource } from "../api/server.ts";
import type { Clock } from "../base/clock.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";
import type { Keys } from "./keys.ts";
import { tell } from "./tell.ts";

interface TokenParts {
  readonly store: Store;
  readonly clock: Clock;
}

export class Tokens {
  readonly #parts: TokenParts;
  readonly #keys: Keys;

  constructor(parts: TokenParts, keys: Keys) {
    this.#parts = parts;
    this.#keys = keys;
  }

  async issue(asking: Token, { expiresInMs, sandboxId, ...body }: IssueTokenBody): Promise<IssuedToken> {
    demandAdmin(asking);
    const now = this.#parts.clock.wallMs();
    const { token, secret } = await this.#parts.store.tokens.issue({
      ...body,
      now,
      ...(sandboxId === undefined ? {} : { sandboxId }),
      ...(expiresInMs === undefined ? {} : { expiresAt: now + expiresInMs }),
    });
    await tell(this.#parts, token, "token-issue");
    return { ...resource(token), secret };
  }

  async list(asking: Token, ownerId?: string): Promise<ListOf<TokenResource>> {
    return { items: (await this.#parts.store.tokens.list(whose(asking, ownerId))).map(resource) };
  }

  async revoke(asking: Token, id: string, ownerId?: string): Promise<boolean> {
    const owner = whose(asking, ownerId);
    if (!isId("token", id)) return false;
    const revoked = await this.#parts.store.tokens.revoke(owner, id, this.#parts.clock.wallMs());
    this.#keys.forget(id);
    if (revoked) await tell(this.#parts, { id, ownerId: owner }, "token-revoke");
    return revoked;
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
