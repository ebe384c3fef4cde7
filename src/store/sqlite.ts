// SQLite inside Node.js as Kysely's driver wants it. Not the only way to the file: another process may read it at the same time.
// Invariant: the database is in WAL mode unless told otherwise, checks foreign keys, and waits for a lock instead of failing at once.

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { type SqliteDatabase, SqliteDialect } from "kysely";
import { CorralError } from "../api/errors.ts";
import { STORE_BUSY_MS, STORE_SQLITE_CACHE_KIB } from "../api/limits.ts";

export interface SqliteOptions {
  /** Path of the file; made when absent. */
  readonly file: string;
  /** Readers and a writer at once; default true. False for file systems without shared memory. */
  readonly wal?: boolean;
  /** `normal` may lose the last commits at a power cut, never at a kill; `full` loses none. Default `full`. */
  readonly synchronous?: "normal" | "full";
  /** Page cache, KiB. */
  readonly cacheKiB?: number;
}

/** Primary result codes of SQLite that a caller can act on. */
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;

export function sqliteDialect(options: SqliteOptions): SqliteDialect {
  const { file, wal = true, synchronous = "full", cacheKiB = STORE_SQLITE_CACHE_KIB } = options;
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(file, { enableForeignKeyConstraints: true });
    database.exec(`pragma busy_timeout = ${STORE_BUSY_MS}; pragma journal_mode = ${wal ? "wal" : "delete"}; pragma synchronous = ${synchronous};
      pragma cache_size = -${cacheKiB}`);
  } catch (cause) {
    throw told(cause);
  }
  return new SqliteDialect({ database: adapt(database) });
}

function adapt(database: DatabaseSync): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare: (text) => {
      const statement = telling(() => database.prepare(text));
      return {
        reader: statement.columns().length > 0,
        all: (values) => telling(() => statement.all(...inputs(values))),
        run: (values) => telling(() => statement.run(...inputs(values))),
        iterate: (values) => rows(statement, values),
      };
    },
  };
}

function* rows(statement: StatementSync, values: readonly unknown[]): IterableIterator<unknown> {
  yield* statement.iterate(...inputs(values));
}

function inputs(values: readonly unknown[]): SQLInputValue[] {
  return values as SQLInputValue[];
}

function telling<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw told(error);
  }
}

/** What a person can act on by its code; a wrong query stays what it is: a defect. */
function told(cause: unknown): unknown {
  const { errcode = 0, message } = cause as Error & { readonly errcode?: number };
  const primary = errcode & 0xff;
  if (primary === SQLITE_FULL) return new CorralError("disk_full", "the disk that holds the database is full; free some space", { cause });
  if (primary === SQLITE_BUSY)
    return new CorralError("store_unavailable", `another process held the database for ${STORE_BUSY_MS} ms; try again`, { cause });
  // Read errors, a damaged or foreign file, one that cannot be opened.
  if ([8, 10, 11, 14, 26].includes(primary))
    return new CorralError("store_unavailable", `the database file cannot be used: ${message}; look at its disk and rights`, { cause });
  return cause;
}
