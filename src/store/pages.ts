// Pages of rows that are told newest first. Invariant: whoever goes on behind a cursor meets no row twice and misses none that stays.

import { CorralError } from "../api/errors.ts";
import { MAX_PAGE_ITEMS } from "../api/limits.ts";

export interface Page<T> {
  readonly items: readonly T[];
  readonly next?: string;
}

/** When the last row of the page before was made, and its id. */
export function placeOf(cursor: string): readonly [number, string] {
  const match = /^(\d{1,15})-([a-z0-9]{1,32})$/.exec(cursor);
  if (match === null) throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
  return [Number(match[1]), match[2] ?? ""];
}

export function limitOf(asked: number = MAX_PAGE_ITEMS): number {
  return Math.min(Math.max(asked, 1), MAX_PAGE_ITEMS);
}

/** `found`: one more than the page holds, where there is one. */
export function pageOf<T extends { readonly id: string; readonly createdAt: number }>(found: readonly T[], limit: number): Page<T> {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return found.length <= limit || last === undefined ? { items } : { items, next: `${last.createdAt}-${last.id}` };
}
