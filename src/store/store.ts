// The store: what must outlive every crash, in SQLite (embedded) or PostgreSQL. It opens and composes; each table has a file of its own.
// It knows no behaviour: what a state means or a scope allows is decided elsewhere. Invariant: both databases pass the same suite
// (contract.test.ts); what a transaction wrote is there whole or not at all.

import { Kysely, sql } from "kysely";
import { type Codebases, codebasesOf } from "./codebases.ts";
import { grouped } from "./grouped.ts";
import { migrate } from "./migrations.ts";
import { type Idempotency, idempotencyOf } from "./idempotency.ts";
import { type LoomTables, loomOf } from "./loom.ts";
import { type Spell, spelling } from "./loom-sql.ts";
import { postgresDialect, type PostgresOptions } from "./postgres.ts";
import { type AuditLog, auditOf, eventsOf, type Log, type NewEvent, type StoredEvent } from "./records.ts";
import { type Sandboxes, sandboxesOf } from "./sandboxes.ts";
import { type Secrets, secretsOf } from "./secrets.ts";
import { type Snapshots, snapshotsOf } from "./snapshots.ts";
import { openSqlite, type SqliteOptions } from "./sqlite.ts";
import type { Db, StoreKind, Tables } from "./tables.ts";
import { type Templates, templatesOf } from "./templates.ts";
import { type Tokens, tokensOf } from "./tokens.ts";

export type StoreOptions = ({ readonly kind: "sqlite" } & SqliteOptions) | ({ readonly kind: "postgres" } & PostgresOptions);

/** The tables, inside or outside of a transaction. */
export interface StoreTables {
  readonly tokens: Tokens;
  readonly sandboxes: Sandboxes;
  readonly codebases: Codebases;
  readonly templates: Templates;
  readonly snapshots: Snapshots;
  readonly secrets: Secrets;
  readonly idempotency: Idempotency;
  readonly events: Log<NewEvent, StoredEvent>;
  readonly audit: AuditLog;
  readonly loom: LoomTables;
}

export interface Store extends StoreTables, AsyncDisposable {
  readonly kind: StoreKind;
  /** All or nothing. Use only the tables that `act` is given: on SQLite the store's own would wait for this transaction to end. */
  transaction<T>(act: (tables: StoreTables) => Promise<T>): Promise<T>;
  /** Resolves when what was committed before the call outlives a power cut; a kill it outlives at once. Throws `store_unavailable`. */
  settled(): Promise<void>;
  /** Resolves when the database answers. Throws `store_unavailable` or `overloaded`. */
  ping(): Promise<void>;
}

/** Opens the database and brings its tables up to date. Throws `store_unavailable`. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { kind } = options;
  // PostgreSQL answers a commit when it is on its disk.
  const { dialect, settled } =
    options.kind === "sqlite" ? openSqlite(options) : { dialect: postgresDialect(options), settled: () => Promise.resolve() };
  const db: Db = new Kysely<Tables>({ dialect });
  const spell = spelling(kind);
  try {
    await migrate(db, kind);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  const transaction: ReturnType<typeof grouped> =
    kind === "sqlite" ? grouped(db) : (act) => db.transaction().execute((inside) => act(inside));
  return {
    kind,
    ...tablesOf(db, spell),
    transaction: (act) => transaction((inside) => act(tablesOf(inside, spell))),
    settled,
    ping: async () => {
      await sql`select 1`.execute(db);
    },
    [Symbol.asyncDispose]: () => db.destroy(),
  };
}

function tablesOf(db: Db, spell: Spell): StoreTables {
  return {
    tokens: tokensOf(db),
    sandboxes: sandboxesOf(db),
    codebases: codebasesOf(db),
    templates: templatesOf(db),
    snapshots: snapshotsOf(db),
    secrets: secretsOf(db),
    idempotency: idempotencyOf(db),
    events: eventsOf(db),
    audit: auditOf(db),
    loom: loomOf(db, spell),
  };
}
