// How a turn begins: its place in the tree, its prompt, and the money it may cost, in one transaction with the intent to call. Not the call.
// Invariant: only when this is committed do bytes leave for a provider; what cannot begin leaves nothing behind.

import { CorralError } from "../../api/errors.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { BudgetScope, Scoped } from "../../store/loom-money.ts";
import type { SessionRecord } from "../../store/loom-sessions.ts";
import type { Place } from "../../store/loom-tree.ts";
import type { TurnRecord } from "../../store/loom-turns.ts";
import type { PinnedCanons } from "../canon/pinned.ts";
import { type Model, modelId } from "../models/model.ts";
import { holdFor, type Price } from "../models/prices.ts";
import { assemble, type PastTurn, type Prompt } from "../prompt/assemble.ts";
import type { PastTexts } from "../prompt/past-texts.ts";
import type { SessionConfig, TurnOptions } from "./options.ts";

/** A turn that runs here. */
export interface Begun {
  readonly turn: TurnRecord;
  readonly session: SessionRecord;
  readonly epoch: number;
  readonly parent: TurnRecord | undefined;
  readonly input: string;
}

/** A call that may be made. */
export interface Intended {
  readonly attempt: number;
  readonly model: Model;
  readonly prompt: Prompt;
  readonly maxOutputTokens: number;
  readonly temperature: number | undefined;
  readonly price: Price | undefined;
  readonly heldNano: number;
}

/** History is read from a border of so many turns, so that a long session costs no more than a bounded one. */
const HISTORY_BLOCK = 100;
const HISTORY_BLOCKS = 4;

/** Texts that never change, as far as they are kept in memory. */
export interface KeptTexts {
  readonly canons: PinnedCanons;
  readonly past: PastTexts;
}

/** Call it in a transaction that holds the lease. */
export async function assembleFor(tables: LoomTables, kept: KeptTexts, { session, parent, turn, input }: Begun, model: Model) {
  const config = session.config as SessionConfig;
  const options = turn.options as TurnOptions;
  const text = await kept.canons.text(tables, session.canonId, config.vars ?? {});
  const maxOutputTokens = options.maxOutputTokens ?? config.maxOutputTokens ?? model.maxOutputTokens;
  const prompt = assemble({
    model: { id: modelId(model), windowTokens: model.windowTokens },
    maxOutputTokens,
    canon: { id: session.canonId, text },
    history:
      parent?.place === undefined || parent.place === null
        ? []
        : await historyOf(tables, kept.past, { sessionId: session.id, place: parent.place }),
    input: { hash: turn.inputHash, text: input },
  });
  return { prompt, maxOutputTokens, temperature: options.temperature ?? config.temperature };
}

async function historyOf(
  { turns, blobs }: LoomTables,
  texts: PastTexts,
  { sessionId, place }: { readonly sessionId: string; readonly place: Place },
): Promise<readonly PastTurn[]> {
  const border = Math.max(0, Math.floor(place.depth / HISTORY_BLOCK) - HISTORY_BLOCKS + 1) * HISTORY_BLOCK;
  const past = await turns.upTo(sessionId, place, place.depth - border);
  const found = await texts.many(
    blobs,
    sessionId,
    past.flatMap(({ inputHash, outputHash }) => [inputHash, ...(outputHash === null ? [] : [outputHash])]),
  );
  return past.map(({ id, inputHash, outputHash }) => {
    const [input, output] = [found.get(inputHash), outputHash === null ? undefined : found.get(outputHash)];
    return { id, input: input?.text ?? "", output: output?.text ?? "", tokens: (input?.tokens ?? 0) + (output?.tokens ?? 0) };
  });
}

export interface HoldRequest {
  readonly begun: Begun;
  readonly attempt: number;
  readonly model: Model;
  readonly price: Price | undefined;
  readonly prompt: Prompt;
  readonly maxOutputTokens: number;
  /** Of earlier attempts of this turn. */
  readonly spentNano: number;
}

/** Call it in a transaction. What was held, in every scope that has a limit. Throws `budget_exhausted`, `price_unknown`. */
export async function hold({ money }: LoomTables, request: HoldRequest): Promise<number> {
  const { begun, attempt, model, price, prompt, maxOutputTokens, spentNano } = request;
  const scopes = scopesOf(begun.session);
  const limit = (begun.turn.options as TurnOptions).budgetNano;
  if (price === undefined) {
    if (limit === undefined && (await money.budgets(scopes)).length === 0) return 0;
    throw new CorralError("price_unknown", `${modelId(model)} has no price, and a budget is set; give it a price, or take the budget away`);
  }
  const nano = holdFor(price, { promptTokens: prompt.receipt.promptTokens, maxOutputTokens });
  if (limit !== undefined && spentNano + nano > limit) throw exhausted("turn", begun.turn.id, nano, limit - spentNano);
  const full = await money.hold({ turnId: begun.turn.id, n: 1, attempt }, scopes, nano);
  if (full !== undefined) throw exhausted(full.scope, full.scopeId, nano, full.limitNano - full.heldNano - full.spentNano);
  return nano;
}

export function scopesOf({ id, ownerId, worldId }: Pick<SessionRecord, "id" | "ownerId" | "worldId">): readonly Scoped[] {
  return [
    { scope: "all", scopeId: "all" },
    { scope: "world", scopeId: worldId },
    { scope: "user", scopeId: ownerId },
    { scope: "session", scopeId: id },
  ];
}

function exhausted(scope: BudgetScope | "turn", id: string, nano: number, left: number): CorralError {
  const usd = (amount: number): string => (Math.max(0, amount) / 1e9).toFixed(6);
  return new CorralError(
    "budget_exhausted",
    `the call may cost $${usd(nano)}, and the budget of ${scope === "all" ? "all" : `${scope} ${id}`} has $${usd(left)} left; raise it, or ask for a shorter reply`,
    { details: { scope, id } },
  );
}
