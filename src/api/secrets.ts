// Secrets of an owner, which the egress proxy puts into requests of sandboxes in place of placeholders. Types alone.
// Invariant: a value goes in and never comes out: no call gives one back.

import type { CallOptions, ListOf, PageOptions } from "./calls.ts";

export interface SecretResource {
  readonly id: string;
  readonly ownerId: string;
  /** What a rule of a network names, and the variable inside that holds the placeholder; once per owner. */
  readonly name: string;
  readonly createdAt: string;
  /** When its value was set. */
  readonly updatedAt: string;
}

export interface CreateSecretBody {
  /** A letter or `_`, then letters, digits and `_`; at most 128 characters. */
  readonly name: string;
  /** Printable ASCII, 8 to 8,192 characters, no space at its ends. */
  readonly value: string;
}

export interface SecretCalls {
  /** `idempotencyKey`: a repeated call answers with the first one's. Throws `secret_state` where the name is taken. */
  create(body: CreateSecretBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<SecretResource>;
  /** Newest first. */
  list(options?: PageOptions): Promise<ListOf<SecretResource>>;
  /** Another value from now on, for sandboxes that run too. */
  rotate(id: string, value: string, options?: CallOptions): Promise<SecretResource>;
  /** Placeholders of it stand for nothing from now on. Throws `secret_not_found`. */
  delete(id: string, options?: CallOptions): Promise<void>;
}
