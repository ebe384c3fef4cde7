// Queries of Loom as text, once for both databases. Not a builder: a turn asks the same few texts thousands of times a second, and each of
// them is built once. Invariant: values travel beside the text, never in it; `?` in a text is always a value.

import { CompiledQuery } from "kysely";
import type { Db, StoreKind } from "./tables.ts";

export type Value = string | number | null | Uint8Array;

export interface Sql {
  all<T>(text: string, values: readonly Value[]): Promise<readonly T[]>;
  one<T>(text: string, values: readonly Value[]): Promise<T | undefined>;
  /** How many rows it changed. */
  run(text: string, values: readonly Value[]): Promise<number>;
  /** Rows of one table in few statements. `skip`: a row that is there already stays as it is. */
  insert(table: string, rows: readonly Readonly<Record<string, Value>>[], skip?: "skip"): Promise<void>;
}

/** Values in one statement; both databases take more. */
const MAX_VALUES = 900;

export type Spell = (text: string) => string;

/** How a database wants its values named. Keeps what it spelled: the texts are few. */
export function spelling(kind: StoreKind): Spell {
  if (kind === "sqlite") return (text) => text;
  const spelled = new Map<string, string>();
  return (text) => {
    let done = spelled.get(text);
    if (done === undefined) {
      let n = 0;
      done = text.replace(/\?/g, () => `$${++n}`);
      spelled.set(text, done);
    }
    return done;
  };
}

export function sqlOf(db: Db, spell: Spell): Sql {
  const ask = async (text: string, values: readonly Value[]) => await db.executeQuery(CompiledQuery.raw(spell(text), [...values]));
  const run = async (text: string, values: readonly Value[]): Promise<number> => Number((await ask(text, values)).numAffectedRows ?? 0n);
  return {
    all: async <T>(text: string, values: readonly Value[]) => (await ask(text, values)).rows as readonly T[],
    one: async <T>(text: string, values: readonly Value[]) => (await ask(text, values)).rows[0] as T | undefined,
    run,
    insert: async (table, rows, skip) => {
      const columns = Object.keys(rows[0] ?? {});
      if (columns.length === 0) return;
      const place = `(${columns.map(() => "?").join(", ")})`;
      const most = Math.max(1, Math.floor(MAX_VALUES / columns.length));
      for (let from = 0; from < rows.length; from += most) {
        const part = rows.slice(from, from + most);
        const places = part.map(() => place).join(", ");
        const conflict = skip === undefined ? "" : " on conflict do nothing";
        const values = part.flatMap((row) => columns.map((column) => row[column] ?? null));
        await run(`insert into ${table} (${columns.join(", ")}) values ${places}${conflict}`, values);
      }
    },
  };
}
