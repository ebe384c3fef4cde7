// Secrets of many owners: who may set, list and delete which. What they are sealed with is secret-box.ts's, where they go is the egress
// proxy's. Invariant: no method gives a value back; a secret of another owner is as one that
// never was.

import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { MAX_SECRETS_PER_OWNER } from "../api/limits.ts";
import type { ListOf } from "../api/server.ts";
import type { CreateSecretBody, SecretResource } from "../api/secrets.ts";
import { randomText } from "../base/random-text.ts";
import { isSecretValue } from "../egress/secrets.ts";
import type { SecretRecord } from "../store/secrets.ts";
import type { Token } from "../store/tokens.ts";
import { createOnce } from "./idempotent.ts";
import type { ServiceParts } from "./parts.ts";
import { subjectOf } from "./secret-rows.ts";
import { tell } from "./tell.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

export class Secrets {
  readonly #parts: ServiceParts;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  async create(token: Token, { name, value }: CreateSecretBody, key?: string): Promise<SecretResource> {
    demandOwner(token);
    if (!NAME.test(name))
      throw new CorralError("request_invalid", "name: a variable inside is called so; write letters, digits and _, no digit first");
    demandValue(value);
    const { ownerId } = token;
    const id = `${ID_PREFIX.secret}${randomText(ID_BODY_LENGTH)}`;
    const made = async (first: string): Promise<SecretResource> => resource(await this.#find(token, first));
    const make = (): Promise<SecretResource> => this.#create({ id, ownerId, name, value });
    // The store keeps a hash of the body, from which a value could be guessed.
    return await createOnce(this.#parts, { ownerId, key, body: { name, value: this.#parts.box.tag(value) }, id, make, made });
  }

  async list(token: Token, request: { readonly limit?: number; readonly cursor?: string } = {}): Promise<ListOf<SecretResource>> {
    demandOwner(token);
    const { store, nodeId } = this.#parts;
    const { items, next } = await store.secrets.list({ ...request, nodeId, ownerId: token.ownerId });
    return { items: items.map(resource), ...(next === undefined ? {} : { next }) };
  }

  async rotate(token: Token, id: string, value: string): Promise<SecretResource> {
    demandOwner(token);
    const record = await this.#find(token, id);
    demandValue(value);
    const { store, clock, box } = this.#parts;
    if (!(await store.secrets.reseal(id, box.seal(value, subjectOf(record)), clock.wallMs()))) throw notFound(id);
    await this.#parts.networks.refreshOwner(record.ownerId);
    await tell(this.#parts, record, "secret-rotate", { name: record.name });
    return resource(await this.#find(token, id));
  }

  async delete(token: Token, id: string): Promise<void> {
    demandOwner(token);
    const record = await this.#find(token, id);
    if (!(await this.#parts.store.secrets.remove(id))) throw notFound(id);
    await this.#parts.networks.refreshOwner(record.ownerId);
    await tell(this.#parts, record, "secret-delete", { name: record.name });
  }

  async #create({ value, ...named }: { readonly id: string; readonly ownerId: string; readonly name: string; readonly value: string }) {
    const { store, clock, nodeId, box } = this.#parts;
    const { ownerId, name } = named;
    const now = clock.wallMs();
    const record = { ...named, nodeId, sealed: box.seal(value, subjectOf(named)), createdAt: now, updatedAt: now };
    const isNew = await store.transaction(async ({ secrets }) => {
      if (!(await secrets.add(record))) return false;
      // With the new one's row: of two that come at once, none passes the limit.
      if ((await secrets.count({ nodeId, ownerId })) > MAX_SECRETS_PER_OWNER)
        throw new CorralError("limit_reached", `${ownerId} has ${MAX_SECRETS_PER_OWNER} secrets, which is the limit; delete one first`);
      return true;
    });
    if (!isNew) throw new CorralError("secret_state", `there is a secret ${name}; give it another value, or take another name`);
    await tell(this.#parts, record, "secret-create", { name });
    return resource(record);
  }

  async #find({ ownerId }: Token, id: string): Promise<SecretRecord> {
    const record = isId("secret", id) ? await this.#parts.store.secrets.get(id, ownerId) : undefined;
    if (record === undefined) throw notFound(id);
    if (record.nodeId !== this.#parts.nodeId)
      throw new CorralError("secret_state", `the secret ${id} lies on ${record.nodeId}, which this server is not; ask that server`);
    return record;
  }
}

function demandOwner({ scope }: Token): void {
  if (scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox sees no secrets; use a key of scope user");
}

function demandValue(value: string): void {
  if (!isSecretValue(value))
    throw new CorralError("request_invalid", "value: takes 8 to 8192 printable ASCII characters, without a space at either end");
}

function notFound(id: string): CorralError {
  return new CorralError("secret_not_found", `there is no secret ${JSON.stringify(id)}: it never was, or was deleted`);
}

function resource({ id, ownerId, name, createdAt, updatedAt }: SecretRecord): SecretResource {
  return { id, ownerId, name, createdAt: new Date(createdAt).toISOString(), updatedAt: new Date(updatedAt).toISOString() };
}
