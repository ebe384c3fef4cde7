// The commits of a turn: accepted, begun, tried again, ended. Each is one transaction that is whole or not there. Not when they are made: that
// is the runner's. Invariant: who lost the lease of a session commits nothing more; an accepted input reaches an end.

import { createHash } from "node:crypto";
import { CorralError, errorCode } from "../../api/errors.ts";
import type { StopReason, TurnState } from "../../api/loom.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { NewLoomEvent } from "../../store/loom-sessions.ts";
import type { StepState, TurnRecord } from "../../store/loom-turns.ts";
import { PinnedCanons } from "../canon/pinned.ts";
import { type Model, modelId, type ModelText, type Usage } from "../models/model.ts";
import { costOf } from "../models/prices.ts";
import { PastTexts } from "../prompt/past-texts.ts";
import { countTokens } from "../prompt/tokens.ts";
import { assembleFor, type Begun, hold, type Intended } from "./begin.ts";
import type { CallOutcome } from "./call.ts";
import type { TurnOptions } from "./options.ts";
import type { EngineParts } from "./parts.ts";

/** The lease of the session is another's: whoever meets this drops the turn at once. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
}

export interface TurnEnd {
  readonly state: TurnState;
  readonly stopReason: StopReason;
  readonly error?: { readonly code: string; readonly message: string };
}

/** How an attempt ended, as it is written. */
export interface AttemptEnd {
  readonly intended: Pick<Intended, "attempt" | "model" | "price" | "heldNano"> & { readonly promptTokens: number };
  readonly state: StepState;
  readonly outcome: CallOutcome;
  /** What was cut off by a crash may have been paid whole. */
  readonly unknown?: boolean;
}

const CALL = 1;

export class Journal {
  readonly #parts: EngineParts;
  readonly #kept = { canons: new PinnedCanons(), past: new PastTexts() };

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** Takes the turn out of the queue and commits the intent to call. `undefined`: it is no longer there to begin. */
  async begin(turnId: string, model: Model): Promise<{ begun: Begun; intended: Intended } | undefined> {
    const { store, clock, writer } = this.#parts;
    return await store.transaction(async (all) => {
      const tables = all.loom;
      const turn = await tables.turns.get(turnId);
      const session = turn === undefined ? undefined : await tables.sessions.get(turn.sessionId);
      if (turn?.state !== "queued" || session === undefined) return undefined;
      const epoch = await tables.sessions.lease(session.id, { writer, seen: session.writer === writer ? writer : null });
      if (epoch === undefined) return undefined;
      const { behind } = turn.options as TurnOptions;
      const parentId = behind === undefined ? ((await tables.tree.branch(turn.branchId))?.headId ?? null) : behind;
      const parent = parentId === null ? undefined : await tables.turns.get(parentId);
      const place = await tables.tree.take(session.id, parent?.place ?? undefined);
      const at = clock.wallMs();
      if (!(await tables.turns.start(turnId, { place, parentId, canonId: session.canonId, at }))) throw new LeaseLost("another turn runs");
      const started: TurnRecord = { ...turn, place, parentId, canonId: session.canonId, state: "running", startedAt: at };
      const begun: Begun = { turn: started, session, epoch, parent, input: await tables.blobs.get(session.id, turn.inputHash) };
      const events: NewLoomEvent[] = [{ kind: "turn-start", turnId, actor: turn.actor, data: { parentId, canonId: session.canonId } }];
      return { begun, intended: await this.#intend(tables, begun, { attempt: 1, model, spentNano: 0, events }) };
    });
  }

  /** The next attempt of a turn that runs. */
  async intend(begun: Begun, next: { readonly attempt: number; readonly model: Model; readonly spentNano: number }): Promise<Intended> {
    return await this.#parts.store.transaction(({ loom }) => this.#intend(loom, begun, { ...next, events: [] }));
  }

  async #intend(tables: LoomTables, begun: Begun, next: NextAttempt): Promise<Intended> {
    const { attempt, model, spentNano, events } = next;
    const { turn, session, epoch } = begun;
    const at = this.#parts.clock.wallMs();
    const name = modelId(model);
    const step: NewLoomEvent = { kind: "step-start", turnId: turn.id, data: { n: CALL, attempt, model: name } };
    if (!(await tables.sessions.append(session.id, { at, events: [...events, step], epoch }))) throw new LeaseLost(session.id);
    const { prompt, maxOutputTokens, temperature } = await assembleFor(tables, this.#kept, begun, model);
    const price = this.#parts.prices.get(name);
    const heldNano = await hold(tables, { begun, attempt, model, price, prompt, maxOutputTokens, spentNano });
    const requestHash = createHash("sha256").update(JSON.stringify(prompt.messages)).digest("base64url");
    const [receipt = ""] = await tables.blobs.put(session.id, [JSON.stringify({ ...prompt.receipt, requestHash })]);
    const place = { sessionId: session.id, turnId: turn.id, n: CALL, attempt };
    await tables.turns.intend({ ...place, kind: "call", name, requestHash: receipt, startedAt: at });
    return { attempt, model, prompt, maxOutputTokens, temperature, price, heldNano };
  }

  /** An attempt ended and another one follows. What it cost, as far as it is known. */
  async drop(begun: Begun, end: AttemptEnd): Promise<number> {
    const { turn, session, epoch } = begun;
    const { attempt, model } = end.intended;
    const failure = end.outcome.end.kind === "failure" ? { message: end.outcome.end.message } : {};
    const events: NewLoomEvent[] = [
      { kind: "step-end", turnId: turn.id, data: { n: CALL, attempt, model: modelId(model), state: end.state, ...failure } },
      { kind: "attempt-drop", turnId: turn.id, data: { n: CALL, attempt } },
    ];
    return await this.#parts.store.transaction(async ({ loom }) => {
      if (!(await loom.sessions.append(session.id, { at: this.#parts.clock.wallMs(), events, epoch }))) throw new LeaseLost(session.id);
      return await this.#settle(loom, begun, end);
    });
  }

  /** The last attempt and the turn end together. */
  async end(begun: Begun, { state, stopReason, error }: TurnEnd, last?: AttemptEnd): Promise<void> {
    const { turn, session, epoch, parent } = begun;
    const at = this.#parts.clock.wallMs();
    const events: NewLoomEvent[] = [];
    if (last !== undefined) {
      const { attempt, model } = last.intended;
      events.push({ kind: "step-end", turnId: turn.id, data: { n: CALL, attempt, model: modelId(model), state: last.state } });
    }
    const told = error === undefined ? {} : { error };
    events.push({ kind: "turn-end", turnId: turn.id, data: { state, stopReason, ...told } });
    const moves = (state === "done" || state === "interrupted") && turn.kind !== "aside";
    if (moves)
      events.push({
        kind: "head-move",
        turnId: turn.id,
        data: { branchId: turn.branchId, why: "turn", from: parent?.id ?? null, to: turn.id },
      });
    await this.#parts.store.transaction(async ({ loom }) => {
      if (!(await loom.sessions.append(session.id, { at, events, epoch }))) throw new LeaseLost(session.id);
      if (last !== undefined) await this.#settle(loom, begun, last);
      const output = textOf(last?.outcome.runs ?? []);
      const kept = state === "done" || output !== "";
      const [outputHash] = kept ? await loom.blobs.put(session.id, [output]) : [];
      const said = outputHash === undefined ? {} : { outputHash, chain: chainOf(parent?.chain ?? "", turn, outputHash) };
      await loom.turns.end({ id: turn.id, from: ["running", "waiting"], to: state, stopReason, ...said, ...told, at });
      if (moves) await loom.tree.moveHead(turn.branchId, turn.id);
      await loom.turns.dropChunks(turn.id);
      await loom.sessions.release(session.id, epoch);
    });
  }

  /** A turn that cannot begin, or is called off before. False: it has begun. */
  async endQueued(turn: Pick<TurnRecord, "id" | "sessionId">, { state, stopReason, error }: TurnEnd): Promise<boolean> {
    const at = this.#parts.clock.wallMs();
    const told = error === undefined ? {} : { error };
    return await this.#parts.store.transaction(async ({ loom }) => {
      // The session first, as everywhere: whoever else changes it waits.
      const ended = { kind: "turn-end", turnId: turn.id, data: { state, stopReason, ...told } } as const;
      if ((await loom.turns.get(turn.id))?.state !== "queued") return false;
      await loom.sessions.append(turn.sessionId, { at, events: [ended] });
      if (await loom.turns.end({ id: turn.id, from: ["queued"], to: state, stopReason, ...told, at })) return true;
      throw new LeaseLost("it began meanwhile");
    });
  }

  async #settle({ turns, blobs, money }: LoomTables, { turn, session }: Begun, end: AttemptEnd): Promise<number> {
    const { intended, outcome, state, unknown = false } = end;
    const { attempt, model, price, heldNano } = intended;
    const at = this.#parts.clock.wallMs();
    const text = outcome.runs.map((run) => run.text).join("");
    const [resultHash = null] = text === "" ? [] : await blobs.put(session.id, [text]);
    const data = { runs: outcome.runs.map((run) => [run.kind, run.text.length]), end: outcome.end };
    const place = { turnId: turn.id, n: CALL, attempt };
    if (!(await turns.settle({ ...place, state, resultHash, data, endedAt: at }))) return 0;
    const of = outcome.end.kind === "failure" ? outcome.end.of : "finish";
    if (of === "not-sent" || of === "rejected") {
      await money.free(place);
      return 0;
    }
    const lost = unknown || of === "unknown";
    const said = outcome.end.kind === "finish" ? outcome.end.usage : undefined;
    const usage = lost ? undefined : usageOf(said, intended.promptTokens, text);
    const exact = said !== undefined && said.inputTokens !== null && said.outputTokens !== null;
    const cost = usage === undefined ? heldNano : price === undefined ? undefined : costOf(price, usage);
    const nanoUsd = price === undefined ? null : (cost ?? heldNano);
    await money.settle({
      ...{ ...place, id: this.#parts.newId("ledger"), sessionId: session.id, provider: model.provider, model: model.name },
      ...{ inputTokens: usage?.inputTokens ?? null, cachedTokens: usage?.cachedTokens ?? null, outputTokens: usage?.outputTokens ?? null },
      ...{ reasoningTokens: usage?.reasoningTokens ?? null, nanoUsd, certainty: lost ? "unknown" : exact ? "exact" : "estimated", at },
    });
    return nanoUsd ?? 0;
  }
}

interface NextAttempt {
  readonly attempt: number;
  readonly model: Model;
  readonly spentNano: number;
  readonly events: readonly NewLoomEvent[];
}

/** What the provider said, or what it must have been. */
function usageOf(said: Usage | undefined, promptTokens: number, text: string): Usage {
  const counted = { inputTokens: promptTokens, cachedTokens: null, outputTokens: countTokens(text), reasoningTokens: null };
  if (said === undefined) return counted;
  return { ...said, inputTokens: said.inputTokens ?? counted.inputTokens, outputTokens: said.outputTokens ?? counted.outputTokens };
}

export function textOf(runs: readonly ModelText[]): string {
  return runs.map(({ kind, text }) => (kind === "text" ? text : "")).join("");
}

export function chainOf(before: string, { inputHash, canonId }: Pick<TurnRecord, "inputHash" | "canonId">, outputHash: string): string {
  return createHash("sha256")
    .update(`${before}\n${inputHash}\n${outputHash}\n${canonId ?? ""}`)
    .digest("base64url");
}

/** How a turn ends that an error of ours ended. */
export function refusedBy(error: unknown): TurnEnd {
  const code = errorCode(error) ?? "internal";
  const message = error instanceof CorralError ? error.message : "a defect of Corral ended the turn; its log says more";
  return {
    state: "error",
    stopReason: code === "budget_exhausted" || code === "price_unknown" ? "budget" : "error",
    error: { code, message },
  };
}
