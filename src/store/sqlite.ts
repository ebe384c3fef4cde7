// SQLite inside Node.js as Kysely's driver wants it. Not the only way to the file: another process may read it at the same time.
// Invariant: the database is in WAL mode unless told otherwise, checks foreign keys, and waits for a lock instead of failing at once; with
// `full`, what was committed before `settled` was asked outlives a power cut once that resolved.

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { type SqliteDatabase, SqliteDialect } from "kysely";
import { CorralError } from "../api/errors.ts";
import { STORE_BUSY_MS, STORE_SQLITE_CACHE_KIB } from "../api/limits.ts";
import { WalSync, walOf } from "./wal-sync.ts";

export interface SqliteOptions {
  /** Path of the file; made when absent. */
  readonly file: string;
  /** Readers and a writer at once; default true. False for file systems without shared memory. */
  readonly wal?: boolean;
  /** `normal` may lose the last commits at a power cut, never at a kill; `full` loses none that was waited for. Default `full`. */
  readonly synchronous?: "normal" | "full";
  /** Page cache, KiB. */
  readonly cacheKiB?: number;
}

/** Statements that are kept prepared; lists with filters have many shapes. */
const KEPT_STATEMENTS = 256;
/** Statements that certainly write nothing. */
const READS = /^\s*(?:select|with recursive)\b/i;
/** Primary result codes of SQLite that a caller can act on. */
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;

export interface Sqlite {
  readonly dialect: SqliteDialect;
  /** Resolves when all that was committed outlives a power cut; at once with `normal`. Throws `store_unavailable`. */
  readonly settled: () => Promise<void>;
}

export function openSqlite(options: SqliteOptions): Sqlite {
  const { file, wal = true, synchronous = "full", cacheKiB = STORE_SQLITE_CACHE_KIB } = options;
  const log = wal && synchronous === "full" ? walOf(file) : undefined;
  const sync = log === undefined ? undefined : new WalSync(log.sync);
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(file, { enableForeignKeyConstraints: true });
    // With a log that we sync ourselves, SQLite syncs it before a checkpoint alone.
    database.exec(`pragma busy_timeout = ${STORE_BUSY_MS}; pragma journal_mode = ${wal ? "wal" : "delete"};
      pragma synchronous = ${log === undefined ? synchronous : "normal"}; pragma cache_size = -${cacheKiB}`);
  } catch (cause) {
    throw told(cause);
  }
  return {
    dialect: new SqliteDialect({ database: adapt(database, { wrote: () => sync?.wrote(), closed: () => log?.close() }) }),
    settled: async () => await sync?.settled(),
  };
}

function adapt(database: DatabaseSync, { wrote, closed }: { readonly wrote: () => void; readonly closed: () => void }): SqliteDatabase {
  const kept = new Map<string, { readonly statement: StatementSync; readonly reader: boolean; readonly writes: boolean }>();
  /** The store asks few different texts, over and over. */
  const prepared = (text: string) => {
    let held = kept.get(text);
    if (held === undefined) {
      const statement = telling(() => database.prepare(text));
      held = { statement, reader: statement.columns().length > 0, writes: !READS.test(text) };
      if (kept.size >= KEPT_STATEMENTS) kept.clear();
      kept.set(text, held);
    }
    return held;
  };
  return {
    close: () => {
      closed();
      database.close();
    },
    prepare: (text) => {
      const { statement, reader, writes } = prepared(text);
      const act = <T>(run: () => T): T => {
        const result = telling(run);
        if (writes) wrote();
        return result;
      };
      return {
        reader,
        all: (values) => act(() => statement.all(...inputs(values))),
        run: (values) => act(() => statement.run(...inputs(values))),
        // One of its own: it may be read to its end while the same text is asked again.
        iterate: (values) =>
          rows(
            telling(() => database.prepare(text)),
            values,
          ),
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
