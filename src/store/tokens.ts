// Keys of clients: who may ask, for whom, and for how much. Not what a scope allows: that is the server's.
// Invariant: a secret is told once, when it is issued, and only its hash is kept. A secret carries 206 random bits, so one plain
// hash is enough, and finding one goes by the hash: no comparison's time tells a prefix of it.

import { createHash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX } from "../api/ids.ts";
import { randomText } from "../base/random-text.ts";
import type { Db, Tables } from "./tables.ts";

/** `admin`: everything. `user`: what the owner owns. `sandbox`: one sandbox. */
export type TokenScope = "admin" | "user" | "sandbox";

export interface Token {
  readonly id: string;
  readonly ownerId: string;
  readonly scope: TokenScope;
  /** Of scope `sandbox` alone. */
  readonly sandboxId: string | null;
  readonly name: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
}

export interface IssueRequest {
  readonly ownerId: string;
  readonly scope: TokenScope;
  readonly sandboxId?: string;
  readonly name: string;
  readonly now: number;
  readonly expiresAt?: number;
}

export interface Tokens {
  /** The only moment at which the secret can be read. */
  issue(request: IssueRequest): Promise<{ readonly token: Token; readonly secret: string }>;
  /** The token that a secret stands for; `undefined` when unknown, revoked or expired at `now`. */
  find(secret: string, now: number): Promise<Token | undefined>;
  /** Those of the ids that are neither revoked nor expired at `now`. */
  holding(ids: readonly string[], now: number): Promise<ReadonlySet<string>>;
  list(ownerId: string): Promise<readonly Token[]>;
  /** False when the owner has no such token that still holds. */
  revoke(ownerId: string, id: string, now: number): Promise<boolean>;
  /** Whether any token was ever issued: what a first start asks. */
  any(): Promise<boolean>;
}

const SECRET_PREFIX = "ck";
const SECRET_LENGTH = 40;
/** Parameters of one query. */
const IDS_AT_ONCE = 500;

export function tokensOf(db: Db): Tokens {
  return {
    issue: (request) => issue(db, request),
    find: async (secret, now) => {
      const row = await db
        .selectFrom("tokens")
        .selectAll()
        .where("hash", "=", hashOf(secret))
        .where("revoked_at", "is", null)
        .executeTakeFirst();
      return row === undefined || (row.expires_at !== null && row.expires_at <= now) ? undefined : tokenOf(row);
    },
    holding: async (ids, now) => {
      const found = new Set<string>();
      for (let at = 0; at < ids.length; at += IDS_AT_ONCE) {
        const query = db
          .selectFrom("tokens")
          .select("id")
          .where("id", "in", ids.slice(at, at + IDS_AT_ONCE))
          .where("revoked_at", "is", null);
        const rows = await query.where((where) => where.or([where("expires_at", "is", null), where("expires_at", ">", now)])).execute();
        for (const { id } of rows) found.add(id);
      }
      return found;
    },
    list: async (ownerId) => {
      const rows = await db
        .selectFrom("tokens")
        .selectAll()
        .where("owner_id", "=", ownerId)
        .where("revoked_at", "is", null)
        .orderBy("created_at")
        .orderBy("id")
        .execute();
      return rows.map(tokenOf);
    },
    revoke: async (ownerId, id, now) => {
      const query = db
        .updateTable("tokens")
        .set({ revoked_at: now })
        .where("id", "=", id)
        .where("owner_id", "=", ownerId)
        .where("revoked_at", "is", null);
      return (await query.executeTakeFirst()).numUpdatedRows === 1n;
    },
    any: async () => (await db.selectFrom("tokens").select("id").limit(1).executeTakeFirst()) !== undefined,
  };
}

async function issue(db: Db, { ownerId, scope, sandboxId, name, now, expiresAt }: IssueRequest): Promise<{ token: Token; secret: string }> {
  if ((scope === "sandbox") !== (sandboxId !== undefined))
    throw new CorralError("request_invalid", "a token of scope sandbox names its sandbox, and no other token does");
  const secret = `${SECRET_PREFIX}${randomText(SECRET_LENGTH)}`;
  const row: Tables["tokens"] = {
    id: `${ID_PREFIX.token}${randomText(ID_BODY_LENGTH)}`,
    hash: hashOf(secret),
    owner_id: ownerId,
    scope,
    sandbox_id: sandboxId ?? null,
    name,
    created_at: now,
    expires_at: expiresAt ?? null,
    revoked_at: null,
  };
  await db.insertInto("tokens").values(row).execute();
  return { token: tokenOf(row), secret };
}

function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

function tokenOf(row: Tables["tokens"]): Token {
  const { id, owner_id: ownerId, scope, sandbox_id: sandboxId, name, created_at: createdAt, expires_at: expiresAt } = row;
  return { id, ownerId, scope: scope as TokenScope, sandboxId, name, createdAt, expiresAt };
}
