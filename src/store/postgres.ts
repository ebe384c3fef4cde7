// PostgreSQL as Kysely's driver wants it: a pool with bounds, numbers as numbers, and failures told by code.
// Not a place of queries. Invariant: waiting for a connection ends (`overloaded`); a server that is gone or restarts is
// `store_unavailable`, and the pool is whole again when it is back.

import { type PostgresCursor, PostgresDialect, type PostgresPoolClient, type PostgresQueryResult } from "kysely";
import { Pool, type PoolClient, types } from "pg";
import { CorralError } from "../api/errors.ts";
import { STORE_POOL_ACQUIRE_MS, STORE_POOL_MAX, STORE_POOL_MIN, STORE_POOL_RECYCLE_MS } from "../api/limits.ts";

export interface PoolOptions {
  /** Connections kept open when nothing is asked. */
  readonly min?: number;
  readonly max?: number;
  /** How long a query waits for a connection, ms. */
  readonly acquireTimeoutMs?: number;
  /** Age at which a connection is replaced, ms. */
  readonly recycleMs?: number;
}

export interface PostgresOptions {
  /** `postgres://user:password@host/database`. */
  readonly url: string;
  readonly pool?: PoolOptions;
}

type TypeId = Parameters<typeof types.getTypeParser>[0];
/** Reads one column's text. */
type Parse = (text: string) => unknown;

export function postgresDialect({ url, pool: bounds = {} }: PostgresOptions): PostgresDialect {
  const acquireMs = bounds.acquireTimeoutMs ?? STORE_POOL_ACQUIRE_MS;
  const pool = new Pool({
    connectionString: url,
    min: bounds.min ?? STORE_POOL_MIN,
    max: bounds.max ?? STORE_POOL_MAX,
    connectionTimeoutMillis: acquireMs,
    maxLifetimeSeconds: Math.ceil((bounds.recycleMs ?? STORE_POOL_RECYCLE_MS) / 1000),
    types: { getTypeParser: parserOf },
  });
  // An idle connection that breaks leaves the pool by itself; without a listener Node.js would end the process.
  pool.on("error", () => undefined);
  return new PostgresDialect({
    pool: {
      options: pool.options,
      end: () => pool.end(),
      connect: async () => {
        try {
          return told(await pool.connect());
        } catch (error) {
          throw connectError(error, acquireMs);
        }
      },
    },
  });
}

/** A `bigint` becomes a number: milliseconds and counters stay far below 2^53. */
function parserOf(oid: TypeId, format?: "text" | "binary"): Parse {
  return oid === types.builtins.INT8 && format !== "binary" ? Number : (types.getTypeParser(oid, format) as Parse);
}

/** The client with its failures told by code; one that broke is not given back to the pool. */
function told(client: PoolClient): PostgresPoolClient {
  let broken = false;
  // While it is lent, its errors come to us and not to the pool; the query that fails tells them.
  const onError = (): void => {
    broken = true;
  };
  client.on("error", onError);
  function query<R>(text: string, values: readonly unknown[]): Promise<PostgresQueryResult<R>>;
  function query<R>(cursor: PostgresCursor<R>): PostgresCursor<R>;
  function query<R>(
    text: string | PostgresCursor<R>,
    values: readonly unknown[] = [],
  ): Promise<PostgresQueryResult<R>> | PostgresCursor<R> {
    if (typeof text !== "string") throw new CorralError("internal", "the store reads whole results, not by cursor");
    const asked = client.query(text, [...values]) as unknown as Promise<PostgresQueryResult<R>>;
    return asked.catch((error: unknown) => {
      broken ||= isGone(error);
      throw broken ? gone(error) : error;
    });
  }
  return {
    query,
    release: (destroy) => {
      client.off("error", onError);
      client.release(destroy === true || broken);
    },
  };
}

function connectError(error: unknown, acquireMs: number): unknown {
  const { message } = error as Error;
  if (/timeout exceeded when trying to connect/.test(message))
    return new CorralError("overloaded", `every connection to the database was in use for ${acquireMs} ms; try again`, { cause: error });
  return isGone(error) ? gone(error) : error;
}

/** Classes 08 (connection) and 57P (shutdown, start-up), sockets that fail, and what `pg` says without a code. */
function isGone(error: unknown): boolean {
  const { code = "", message } = error as Error & { readonly code?: string };
  return /^(08|57P|53300|E[A-Z]+$)/.test(code) || /^Connection terminated|connection error/i.test(message);
}

function gone(cause: unknown): CorralError {
  // The message of the driver may hold an address, never the password.
  return new CorralError("store_unavailable", `the database does not answer: ${(cause as Error).message}; try again`, { cause });
}
