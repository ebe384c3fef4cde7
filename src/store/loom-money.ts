// What calls cost: a ledger that only grows, and budgets that are a gate. Not prices: what a call may cost is counted by who makes it.
// Invariant: money is held in every scope or in none before a call; held money becomes spent or free when the call settles, and what was
// held or spent never passes a limit, but for a provider that bills more than was held.

import type { Sql } from "./loom-sql.ts";

export type BudgetScope = "session" | "user" | "world" | "all";

export interface Scoped {
  readonly scope: BudgetScope;
  /** Of the session, owner or world; `all` has the id `all`. */
  readonly scopeId: string;
}

export interface BudgetRecord extends Scoped {
  readonly limitNano: number;
  readonly heldNano: number;
  readonly spentNano: number;
}

export interface CallPlace {
  readonly turnId: string;
  readonly n: number;
  readonly attempt: number;
}

export interface LedgerEntry extends CallPlace {
  readonly id: string;
  readonly sessionId: string;
  readonly provider: string;
  readonly model: string;
  readonly inputTokens: number | null;
  readonly cachedTokens: number | null;
  readonly outputTokens: number | null;
  readonly reasoningTokens: number | null;
  /** `null`: the model has no price. */
  readonly nanoUsd: number | null;
  /** `unknown`: the request left and no answer came; the amount is what was held. */
  readonly certainty: "exact" | "estimated" | "unknown";
  readonly at: number;
}

export interface Money {
  setLimit(scoped: Scoped, limitNano: number): Promise<void>;
  budgets(scopes: readonly Scoped[]): Promise<readonly BudgetRecord[]>;
  /** Call it in a transaction, and undo all of it when a scope is told: that one has no room. Scopes without a limit hold nothing. */
  hold(place: CallPlace, scopes: readonly Scoped[], nano: number): Promise<BudgetRecord | undefined>;
  /** Call it in a transaction. What a call held becomes spent, as far as it was; and the ledger tells. */
  settle(entry: LedgerEntry): Promise<void>;
  /** Call it in a transaction. The call was free. */
  free(place: CallPlace): Promise<void>;
  ledger(sessionId: string): Promise<readonly LedgerEntry[]>;
}

interface BudgetRow {
  readonly scope: BudgetScope;
  readonly scope_id: string;
  readonly limit_nano: number;
  readonly held_nano: number;
  readonly spent_nano: number;
}

interface HoldRow {
  readonly scope: BudgetScope;
  readonly scope_id: string;
  readonly nano_usd: number;
}

interface LedgerRow {
  readonly id: string;
  readonly session_id: string;
  readonly turn_id: string;
  readonly n: number;
  readonly attempt: number;
  readonly provider: string;
  readonly model: string;
  readonly input_tokens: number | null;
  readonly cached_tokens: number | null;
  readonly output_tokens: number | null;
  readonly reasoning_tokens: number | null;
  readonly nano_usd: number | null;
  readonly certainty: LedgerEntry["certainty"];
  readonly at: number;
}

const PLACE = "turn_id = ? and n = ? and attempt = ?";
const SCOPE = "scope = ? and scope_id = ?";

export function moneyOf(sql: Sql): Money {
  const budget = async ({ scope, scopeId }: Scoped): Promise<BudgetRecord | undefined> => {
    const row = await sql.one<BudgetRow>(`select * from loom_budget where ${SCOPE}`, [scope, scopeId]);
    return row === undefined ? undefined : budgetOf(row);
  };
  /** Takes what a call held out of its budgets. */
  const taken = async ({ turnId, n, attempt }: CallPlace, spent: (held: number) => number): Promise<void> => {
    const holds = await sql.all<HoldRow>(`delete from loom_hold where ${PLACE} returning scope, scope_id, nano_usd`, [turnId, n, attempt]);
    for (const { scope, scope_id: scopeId, nano_usd: held } of holds)
      await sql.run(`update loom_budget set held_nano = held_nano - ?, spent_nano = spent_nano + ? where ${SCOPE}`, [
        held,
        spent(held),
        scope,
        scopeId,
      ]);
  };
  return {
    setLimit: async ({ scope, scopeId }, limitNano) => {
      const text = `insert into loom_budget (scope, scope_id, limit_nano, held_nano, spent_nano) values (?, ?, ?, 0, 0)
        on conflict (scope, scope_id) do update set limit_nano = excluded.limit_nano`;
      await sql.run(text, [scope, scopeId, limitNano]);
    },
    budgets: async (scopes) => (await Promise.all(scopes.map(budget))).filter((one) => one !== undefined),
    hold: async ({ turnId, n, attempt }, scopes, nano) => {
      // In one order everywhere, so that no two wait for each other.
      for (const scoped of [...scopes].sort((one, other) => (one.scope < other.scope ? -1 : 1))) {
        const { scope, scopeId } = scoped;
        const text = `update loom_budget set held_nano = held_nano + ? where ${SCOPE} and spent_nano + held_nano + ? <= limit_nano`;
        if ((await sql.run(text, [nano, scope, scopeId, nano])) === 1) {
          await sql.insert("loom_hold", [{ turn_id: turnId, n, attempt, scope, scope_id: scopeId, nano_usd: nano }]);
        } else {
          const full = await budget(scoped);
          if (full !== undefined) return full;
        }
      }
      return undefined;
    },
    settle: async (entry) => {
      const { id, sessionId, turnId, n, attempt, provider, model, inputTokens, cachedTokens, outputTokens, reasoningTokens } = entry;
      await taken(entry, (held) => entry.nanoUsd ?? held);
      const tokens = {
        input_tokens: inputTokens,
        cached_tokens: cachedTokens,
        output_tokens: outputTokens,
        reasoning_tokens: reasoningTokens,
      };
      const row = { id, session_id: sessionId, turn_id: turnId, n, attempt, provider, model, ...tokens };
      await sql.insert("loom_ledger", [{ ...row, nano_usd: entry.nanoUsd, certainty: entry.certainty, at: entry.at }]);
    },
    free: (place) => taken(place, () => 0),
    ledger: async (sessionId) =>
      (await sql.all<LedgerRow>("select * from loom_ledger where session_id = ? order by at, id", [sessionId])).map(entryOf),
  };
}

function budgetOf({
  scope,
  scope_id: scopeId,
  limit_nano: limitNano,
  held_nano: heldNano,
  spent_nano: spentNano,
}: BudgetRow): BudgetRecord {
  return { scope, scopeId, limitNano, heldNano, spentNano };
}

function entryOf(row: LedgerRow): LedgerEntry {
  const { id, session_id: sessionId, turn_id: turnId, n, attempt, provider, model, certainty, at, nano_usd: nanoUsd } = row;
  const tokens = { inputTokens: row.input_tokens, cachedTokens: row.cached_tokens, outputTokens: row.output_tokens };
  return { id, sessionId, turnId, n, attempt, provider, model, ...tokens, reasoningTokens: row.reasoning_tokens, nanoUsd, certainty, at };
}
