// What becomes of turns that were running when their process died: the last row of the journal decides. Not a retry of what is known.
// Invariant: a result that is in the journal is never asked for again; a call whose outcome nobody knows is told as unknown, its money counts
// as spent, and it is made again only where the operator said so.

import type { TurnRecord } from "../../store/loom-turns.ts";
import type { ModelText } from "../models/model.ts";
import { holdFor } from "../models/prices.ts";
import type { Begun } from "./begin.ts";
import { type Journal, LeaseLost, textOf } from "./journal.ts";
import type { EngineParts } from "./parts.ts";

export interface Recovered {
  readonly turn: TurnRecord;
  /** Absent: the turn has ended. */
  readonly resume?: { readonly begun: Begun; readonly attempt: number; readonly spentNano: number };
}

export async function recover(parts: EngineParts, journal: Journal, runsHere: (turnId: string) => boolean): Promise<readonly Recovered[]> {
  const found: Recovered[] = [];
  for (const turn of await parts.store.loom.turns.open()) {
    if (runsHere(turn.id) || turn.state !== "running") continue;
    const begun = await taken(parts, turn);
    if (begun === undefined) continue;
    try {
      found.push(await recovered(parts, journal, begun));
    } catch (error) {
      if (!(error instanceof LeaseLost)) parts.onError(error);
    }
  }
  return found;
}

/** The lease of a turn that nobody runs; `undefined`: somebody does. */
async function taken({ store, writer, isDead }: EngineParts, turn: TurnRecord): Promise<Begun | undefined> {
  const { loom } = store;
  const session = await loom.sessions.get(turn.sessionId);
  if (session === undefined) return undefined;
  const { writer: seen } = session;
  if (seen !== null && seen !== writer && !(await isDead(seen))) return undefined;
  const epoch = await store.transaction((tables) => tables.loom.sessions.lease(session.id, { writer, seen }));
  const now = await loom.turns.get(turn.id);
  if (epoch === undefined || now?.state !== "running") {
    if (epoch !== undefined) await loom.sessions.release(session.id, epoch);
    return undefined;
  }
  const parent = now.parentId === null ? undefined : await loom.turns.get(now.parentId);
  return { turn: now, session, epoch, parent, input: await loom.blobs.get(session.id, now.inputHash) };
}

async function recovered(parts: EngineParts, journal: Journal, begun: Begun): Promise<Recovered> {
  const { store, config } = parts;
  const { turn, session } = begun;
  const steps = await store.loom.turns.steps(turn.id);
  const last = steps.at(-1);
  const spentNano = (await store.loom.money.ledger(session.id))
    .filter((entry) => entry.turnId === turn.id)
    .reduce((sum, entry) => sum + (entry.nanoUsd ?? 0), 0);
  const attempt = (last?.attempt ?? 0) + 1;
  if (last?.state !== "intent") return { turn, resume: { begun, attempt, spentNano } };
  const chunks = await store.loom.turns.chunks(turn.id, { n: last.n, attempt: last.attempt });
  const runs = chunks.map(({ kind, body }): ModelText => ({ kind, text: body }));
  const [provider = "", ...rest] = last.name.split("/");
  const model = { provider, name: rest.join("/"), windowTokens: 0, maxOutputTokens: 0, stream: nothing };
  const intended = {
    attempt: last.attempt,
    model,
    price: parts.prices.get(last.name),
    heldNano: await heldFor(parts, last),
    promptTokens: 0,
  };
  const outcome = { runs, end: { kind: "failure", of: "unknown", message: "the server died during the call" } } as const;
  const end = { intended, state: "unknown", outcome, unknown: true } as const;
  if (config.onUnknown === "retry") {
    const lost = await journal.drop(begun, end);
    return { turn, resume: { begun, attempt, spentNano: spentNano + lost } };
  }
  const error = { code: "model_failed", message: "the server died during the call; whether it was answered, and paid, is unknown" };
  const partial = textOf(runs) !== "";
  await journal.end(
    begun,
    { state: "interrupted", stopReason: "unknown", error: partial ? { ...error, message: `${error.message}; what came is kept` } : error },
    end,
  );
  return { turn };
}

/** What the receipt says may have been paid: holds stand only where a budget is set. */
async function heldFor(
  { store, prices }: EngineParts,
  step: { readonly turnId: string; readonly name: string; readonly requestHash: string },
): Promise<number> {
  const price = prices.get(step.name);
  const turn = price === undefined ? undefined : await store.loom.turns.get(step.turnId);
  if (price === undefined || turn === undefined) return 0;
  const { promptTokens, maxOutputTokens } = JSON.parse(await store.loom.blobs.get(turn.sessionId, step.requestHash)) as {
    readonly promptTokens: number;
    readonly maxOutputTokens: number;
  };
  return holdFor(price, { promptTokens, maxOutputTokens });
}

async function* nothing(): AsyncGenerator<never> {
  // a model of which only the name is left
}
