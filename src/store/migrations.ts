// What the tables are made of, step by step: one set for both databases, run at every open. Not the place of queries.
// Invariant: a migration that was released is never changed; a new one is added behind it, and its name sorts last.

import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { CorralError } from "../api/errors.ts";
import { loomMoneyTables, loomTables } from "./loom-schema.ts";
import type { Db, StoreKind } from "./tables.ts";

/** Brings the tables up to date. Several processes may do it at once: one does the work, the others wait for it. */
export async function migrate(db: Db, kind: StoreKind): Promise<void> {
  const provider = { getMigrations: () => Promise.resolve(migrations(kind)) };
  const { error } = await new Migrator({ db, provider }).migrateToLatest();
  if (error === undefined) return;
  const { message } = error as Error;
  throw new CorralError(
    "store_unavailable",
    `the tables could not be brought up to date (${message}); a database of a newer Corral needs that Corral`,
    { cause: error },
  );
}

function migrations(kind: StoreKind): Record<string, Migration> {
  return {
    "001-tokens": tokens(),
    "002-sandboxes": sandboxes(),
    "003-records": records(kind),
    "004-codebases": codebases(),
    "005-pause": pause(),
    "006-key-nodes": keyNodes(),
    "007-templates": templates(),
    "008-snapshots": snapshots(),
    "009-secrets": secrets(),
    "010-loom": statements(loomTables(kind)),
    "011-loom-money": statements(loomMoneyTables(kind)),
  };
}

// Migrations see no table types: those are of today, a migration is of its day.
type Schema = Kysely<unknown>;

function tokens(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("tokens")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("hash", "text", (column) => column.notNull().unique())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("scope", "text", (column) => column.notNull())
        .addColumn("sandbox_id", "text")
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("expires_at", "bigint")
        .addColumn("revoked_at", "bigint")
        .execute();
      await db.schema.createIndex("tokens_owner").on("tokens").columns(["owner_id", "created_at"]).execute();
    },
  };
}

function sandboxes(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("sandboxes")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("node_id", "text", (column) => column.notNull())
        .addColumn("state", "text", (column) => column.notNull())
        .addColumn("live", "integer", (column) => column.notNull())
        .addColumn("request", "text", (column) => column.notNull())
        .addColumn("info", "text", (column) => column.notNull())
        .addColumn("on_timeout", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("updated_at", "bigint", (column) => column.notNull())
        .addColumn("end_at", "bigint")
        .execute();
      await db.schema.createIndex("sandboxes_page").on("sandboxes").columns(["owner_id", "live", "created_at", "id"]).execute();
      await db.schema.createIndex("sandboxes_end").on("sandboxes").columns(["live", "end_at"]).execute();
      await db.schema
        .createTable("sandbox_metadata")
        .addColumn("sandbox_id", "text", (column) => column.notNull().references("sandboxes.id").onDelete("cascade"))
        .addColumn("key", "text", (column) => column.notNull())
        .addColumn("value", "text", (column) => column.notNull())
        .addPrimaryKeyConstraint("sandbox_metadata_key", ["sandbox_id", "key"])
        .execute();
      await db.schema.createIndex("sandbox_metadata_value").on("sandbox_metadata").columns(["key", "value"]).execute();
    },
  };
}

function records(kind: StoreKind): Migration {
  // SQLite counts up an integer primary key; PostgreSQL takes a sequence.
  const counter = kind === "sqlite" ? sql`integer` : sql`bigserial`;
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("idempotency")
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("key", "text", (column) => column.notNull())
        .addColumn("body_hash", "text", (column) => column.notNull())
        .addColumn("result_id", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("expires_at", "bigint", (column) => column.notNull())
        .addPrimaryKeyConstraint("idempotency_key", ["owner_id", "key"])
        .execute();
      await db.schema.createIndex("idempotency_end").on("idempotency").column("expires_at").execute();
      const log = (table: "events" | "audit", columns: readonly string[]) =>
        columns
          .reduce(
            (made, column) => made.addColumn(column, "text", (text) => text.notNull()),
            db.schema
              .createTable(table)
              .addColumn("seq", counter, (column) => (kind === "sqlite" ? column.primaryKey().autoIncrement() : column.primaryKey()))
              .addColumn("at", "bigint", (column) => column.notNull())
              .addColumn("owner_id", "text", (column) => column.notNull()),
          )
          .execute();
      await log("events", ["kind", "subject_id", "data"]);
      await db.schema.createIndex("events_owner").on("events").columns(["owner_id", "seq"]).execute();
      await log("audit", ["token_id", "action", "subject_id", "outcome", "details"]);
      await db.schema.createIndex("audit_owner").on("audit").columns(["owner_id", "seq"]).execute();
    },
  };
}

function pause(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema.alterTable("sandboxes").addColumn("memory", "integer").execute();
    },
  };
}

function keyNodes(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema.alterTable("idempotency").addColumn("node_id", "text").execute();
    },
  };
}

function snapshots(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("snapshots")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("node_id", "text", (column) => column.notNull())
        .addColumn("sandbox_id", "text", (column) => column.notNull())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("metadata", "text", (column) => column.notNull())
        .addColumn("request", "text", (column) => column.notNull())
        .addColumn("codebase_id", "text")
        .addColumn("codebase_version", "integer")
        .addColumn("template_id", "text")
        .addColumn("bytes", "bigint")
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("snapshots_page").on("snapshots").columns(["owner_id", "created_at", "id"]).execute();
      for (const column of ["codebase_id", "template_id"])
        await db.schema.createIndex(`snapshots_${column}`).on("snapshots").column(column).execute();
      await db.schema
        .createTable("snapshot_uses")
        .addColumn("sandbox_id", "text", (column) => column.primaryKey())
        .addColumn("snapshot_id", "text", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("snapshot_uses_snapshot").on("snapshot_uses").column("snapshot_id").execute();
    },
  };
}

function codebases(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("codebases")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("node_id", "text", (column) => column.notNull())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("labels", "text", (column) => column.notNull())
        .addColumn("version", "integer", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("updated_at", "bigint", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("codebases_page").on("codebases").columns(["owner_id", "created_at", "id"]).execute();
      await db.schema
        .createTable("codebase_versions")
        .addColumn("codebase_id", "text", (column) => column.notNull().references("codebases.id").onDelete("cascade"))
        .addColumn("number", "integer", (column) => column.notNull())
        .addColumn("root", "text", (column) => column.notNull())
        .addColumn("bytes", "bigint", (column) => column.notNull())
        .addColumn("files", "integer", (column) => column.notNull())
        .addColumn("entries", "integer", (column) => column.notNull())
        .addColumn("source", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addPrimaryKeyConstraint("codebase_versions_key", ["codebase_id", "number"])
        .execute();
      await db.schema
        .createTable("codebase_uses")
        .addColumn("sandbox_id", "text", (column) => column.primaryKey())
        .addColumn("codebase_id", "text", (column) => column.notNull())
        .addColumn("number", "integer", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("codebase_uses_codebase").on("codebase_uses").column("codebase_id").execute();
    },
  };
}

function templates(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("templates")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("node_id", "text", (column) => column.notNull())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("shared", "integer", (column) => column.notNull())
        .addColumn("source", "text", (column) => column.notNull())
        .addColumn("defaults", "text", (column) => column.notNull())
        .addColumn("state", "text", (column) => column.notNull())
        .addColumn("reason", "text")
        .addColumn("root", "text")
        .addColumn("bytes", "bigint", (column) => column.notNull())
        .addColumn("files", "integer", (column) => column.notNull())
        .addColumn("entries", "integer", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("templates_page").on("templates").columns(["owner_id", "created_at", "id"]).execute();
      await db.schema
        .createTable("template_uses")
        .addColumn("sandbox_id", "text", (column) => column.primaryKey())
        .addColumn("template_id", "text", (column) => column.notNull())
        .execute();
      await db.schema.createIndex("template_uses_template").on("template_uses").column("template_id").execute();
    },
  };
}

function secrets(): Migration {
  return {
    up: async (db: Schema) => {
      await db.schema
        .createTable("secrets")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("owner_id", "text", (column) => column.notNull())
        .addColumn("node_id", "text", (column) => column.notNull())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("sealed", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("updated_at", "bigint", (column) => column.notNull())
        .addUniqueConstraint("secrets_name", ["node_id", "owner_id", "name"])
        .execute();
    },
  };
}

function statements(texts: readonly string[]): Migration {
  return {
    up: async (db: Schema) => {
      for (const text of texts) await sql.raw(text).execute(db);
    },
  };
}
