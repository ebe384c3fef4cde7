// Transactions that wait for one another, committed together: SQLite has one writer, and what a commit costs hardly grows with what is in it.
// Not for a database with many connections. Invariant: each of them is whole or not there, and is told so only after the commit; one that
// fails takes back what is its own alone.

import { CompiledQuery, type Transaction } from "kysely";
import type { Db, Tables } from "./tables.ts";

type Inside = Transaction<Tables>;

interface Job {
  readonly act: (inside: Inside) => Promise<unknown>;
  readonly done: (result: unknown) => void;
  readonly failed: (error: unknown) => void;
}

/** So many share a commit at most: the first of them waits for the last. */
const MOST = 32;

export function grouped(db: Db): <T>(act: (inside: Inside) => Promise<T>) => Promise<T> {
  let waiting: Job[] = [];
  let running = false;
  const run = async (): Promise<void> => {
    running = true;
    while (waiting.length > 0) {
      const jobs = waiting.slice(0, MOST);
      waiting = waiting.slice(MOST);
      await together(db, jobs);
    }
    running = false;
  };
  return async <T>(act: (inside: Inside) => Promise<T>) =>
    await new Promise<T>((resolve, reject) => {
      waiting.push({ act, done: (result) => resolve(result as T), failed: reject });
      if (!running) void run();
    });
}

/** Never throws. */
async function together(db: Db, jobs: readonly Job[]): Promise<void> {
  const results: (() => void)[] = [];
  try {
    await db.transaction().execute(async (inside) => {
      for (const { act, done, failed } of jobs) {
        if (jobs.length === 1) {
          const result = await act(inside);
          results.push(() => done(result));
          continue;
        }
        await word(inside, "savepoint one");
        try {
          const result = await act(inside);
          results.push(() => done(result));
        } catch (error) {
          results.push(() => failed(error));
          // Some failures end the transaction itself, a full disk is one; then this fails too, and all are told.
          await word(inside, "rollback to one").catch(() => {
            throw error;
          });
        }
        await word(inside, "release one");
      }
    });
  } catch (error) {
    for (const { failed } of jobs) failed(error);
    return;
  }
  for (const tell of results) tell();
}

async function word(inside: Inside, text: string): Promise<void> {
  await inside.executeQuery(CompiledQuery.raw(text));
}
