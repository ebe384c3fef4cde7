// Pages of rows that are told newest first. Invariant: whoever goes on behind a cursor meets no row twice and misses none that stays.

import { type Expression, type SelectQueryBuilder, sql, type SqlBool } from "kysely";
import { CorralError } from "../api/errors.ts";
import { MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { Tables } from "./tables.ts";

export interface Page<T> {
  readonly items: readonly T[];
  readonly next?: string;
}

type Paged = "sandboxes" | "codebases" | "templates" | "snapshots" | "secrets";

/** Rows of `table` behind the page that gave the cursor: older than its last one, or as old with a smaller id. */
export function behind(cursor: string, table: Paged): Expression<SqlBool> {
  const place = sql`${sql.ref(`${table}.created_at`)}, ${sql.ref(`${table}.id`)}`;
  const [at, id] = placeOf(cursor);
  return sql<SqlBool>`(${place}) < (${at}, ${id})`;
}

/** Time and id of the last row of the page that gave the cursor. Throws `request_invalid`. */
export function placeOf(cursor: string): readonly [number, string] {
  const match = /^(\d{1,15})-([a-z0-9]{1,32})$/.exec(cursor);
  if (match === null) throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
  return [Number(match[1]), match[2] ?? ""];
}

export function limitOf(asked: number = MAX_PAGE_ITEMS): number {
  return Math.min(Math.max(asked, 1), MAX_PAGE_ITEMS);
}

/** What `pageOf` makes a page of. */
export function newestFirst<T extends keyof Tables, O>(query: SelectQueryBuilder<Tables, T, O>, table: Paged, limit: number): typeof query {
  const [at, id] = [sql.ref(`${table}.created_at`), sql.ref(`${table}.id`)];
  return query
    .orderBy(at, "desc")
    .orderBy(id, "desc")
    .limit(limit + 1);
}

/** `found`: one more than the page holds, where there is one. */
export function pageOf<T extends { readonly id: string; readonly createdAt: number }>(found: readonly T[], limit: number): Page<T> {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return found.length <= limit || last === undefined ? { items } : { items, next: `${last.createdAt}-${last.id}` };
}
