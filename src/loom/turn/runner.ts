// One turn from its beginning to its end: attempts, time-outs, retries, other models, and what becomes of it when it is called off. What is
// committed is the journal's. Invariant: every turn that begins here ends here, or its process died; a provider that is down ends it with an
// error, and nothing else ever stands in for a reply.

import { CorralError } from "../../api/errors.ts";
import type { StopReason } from "../../api/loom.ts";
import { pause } from "../../base/alarm.ts";
import { Breaker } from "../models/breaker.ts";
import { type Model, type ModelFailure, modelId } from "../models/model.ts";
import { MAX_ATTEMPTS, mayRetry, retryDelayMs } from "../models/retry.ts";
import type { Begun, Intended } from "./begin.ts";
import { type CallOutcome, callModel } from "./call.ts";
import type { Flusher } from "./flusher.ts";
import { type AttemptEnd, type Journal, LeaseLost, refusedBy, type TurnEnd } from "./journal.ts";
import type { TurnOptions } from "./options.ts";
import type { EngineParts } from "./parts.ts";

/** Why a running turn is called off. */
export type CallOff = "cancel" | "interrupt" | "rollback" | "timeout";

const ENDS: Readonly<Record<CallOff, TurnEnd>> = {
  cancel: { state: "cancelled", stopReason: "cancelled" },
  interrupt: { state: "interrupted", stopReason: "interrupted" },
  rollback: { state: "rolled-back", stopReason: "rolled-back" },
  timeout: { state: "error", stopReason: "timeout", error: { code: "model_failed", message: "the turn took longer than it may" } },
};

/** A turn that runs here, for whoever wants it to stop. */
export class Running {
  readonly controller = new AbortController();
  off: CallOff | undefined;

  callOff(why: CallOff): void {
    this.off ??= why;
    this.controller.abort();
  }
}

export interface RunnerParts {
  readonly engine: EngineParts;
  readonly journal: Journal;
  readonly flusher: Flusher;
}

/** What a turn has come to between two attempts. */
interface Progress {
  readonly models: readonly Model[];
  /** Attempts on the model that is asked now. */
  onModel: number;
  spentNano: number;
}

export class Runner {
  readonly #parts: RunnerParts;
  readonly #breakers = new Map<string, Breaker>();

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  /** Whether the model's circuit is open. */
  isOpen(model: Model): boolean {
    return this.#breakers.get(modelId(model))?.open ?? false;
  }

  /** The models that a turn may ask, the first one first. */
  modelsFor(type: string, { model }: TurnOptions): readonly Model[] {
    const models = this.#parts.engine.route(type);
    return model === undefined ? models : models.filter((one) => modelId(one) === model);
  }

  /** Runs a turn that waits. Resolves when it has ended, or is another's. */
  async run(turnId: string, running: Running): Promise<void> {
    const { engine, journal } = this.#parts;
    const turn = await engine.store.loom.turns.get(turnId);
    const session = turn === undefined ? undefined : await engine.store.loom.sessions.get(turn.sessionId);
    if (turn?.state !== "queued" || session === undefined) return;
    const models = this.modelsFor(session.type, turn.options);
    let model: Model | undefined;
    let first: { readonly begun: Begun; readonly intended: Intended } | undefined;
    try {
      model = this.#admitted(models);
      first = await journal.begin(turnId, model);
    } catch (error) {
      await this.#refused(turn, error);
    }
    if (first === undefined && model !== undefined) this.#breaker(model).ended(undefined);
    if (first !== undefined) await this.#go(first.begun, first.intended, { models, onModel: 1, spentNano: 0 }, running);
  }

  /** Goes on with a turn whose process died: one more attempt. */
  async resume(
    begun: Begun,
    { attempt, spentNano }: { readonly attempt: number; readonly spentNano: number },
    running: Running,
  ): Promise<void> {
    const models = this.modelsFor(begun.session.type, begun.turn.options);
    const progress = { models, onModel: 1, spentNano };
    const intended = await this.#intended(begun, { attempt, spentNano }, () => this.#admitted(models));
    if (intended !== undefined) await this.#go(begun, intended, progress, running);
  }

  async #go(begun: Begun, first: Intended, progress: Progress, running: Running): Promise<void> {
    const { engine } = this.#parts;
    const offTurn = engine.alarms.after(engine.config.timeouts.turnMs, () => running.callOff("timeout"));
    try {
      let intended: Intended | undefined = first;
      while (intended !== undefined) intended = await this.#attempt(begun, intended, progress, running);
    } finally {
      offTurn();
    }
  }

  /** `undefined`: the turn has ended. */
  async #attempt(begun: Begun, intended: Intended, progress: Progress, running: Running): Promise<Intended | undefined> {
    const { engine, flusher } = this.#parts;
    await engine.store.settled(); // a power cut must not forget what is paid for
    const { attempt, model, prompt, maxOutputTokens, temperature } = intended;
    const place = { turnId: begun.turn.id, n: 1, attempt };
    const outcome = await callModel({
      ...{ model, messages: prompt.messages, maxOutputTokens, ...(temperature === undefined ? {} : { temperature }) },
      ...{ signal: running.controller.signal, alarms: engine.alarms, timeouts: engine.config.timeouts },
      onText: (text) => flusher.add(place, text),
    });
    await flusher.takeOut(begun.turn.id);
    const { end } = outcome;
    this.#breaker(model).ended(running.off === undefined ? end.kind === "finish" || !isOutage(end) : undefined);
    const last = { intended: { ...intended, promptTokens: prompt.receipt.promptTokens }, outcome };
    if (end.kind === "finish") return await this.#ended(begun, { state: "done", stopReason: end.reason }, { ...last, state: "done" });
    if (running.off !== undefined) return await this.#ended(begun, ENDS[running.off], { ...last, state: lostOr(end, "dropped") });
    const next = this.#next(progress, model, outcome);
    if (next === undefined) return await this.#ended(begun, failed(outcome, model), { ...last, state: lostOr(end, "failed") });
    return await this.#again(begun, { ...last, state: lostOr(end, "failed") }, { progress, next, running });
  }

  /** Drops an attempt, waits, and intends the next one. */
  async #again(begun: Begun, dropped: AttemptEnd, { progress, next, running }: Again): Promise<Intended | undefined> {
    const { engine, journal } = this.#parts;
    const { attempt } = dropped.intended;
    progress.spentNano += await journal.drop(begun, dropped);
    await pause(engine.alarms, next.delayMs, running.controller.signal);
    if (running.off === undefined)
      return await this.#intended(begun, { attempt: attempt + 1, spentNano: progress.spentNano }, () => next.model);
    this.#breaker(next.model).ended(undefined);
    return await this.#ended(begun, ENDS[running.off]);
  }

  /** Commits the intent to call; a turn that may not is ended. */
  async #intended(
    begun: Begun,
    next: { readonly attempt: number; readonly spentNano: number },
    choose: () => Model,
  ): Promise<Intended | undefined> {
    let model: Model | undefined;
    try {
      model = choose();
      return await this.#parts.journal.intend(begun, { ...next, model });
    } catch (error) {
      if (model !== undefined) this.#breaker(model).ended(undefined);
      if (error instanceof LeaseLost) throw error;
      return await this.#ended(begun, refusedBy(error));
    }
  }

  /** The model to ask next, and when; `undefined`: there is none. */
  #next(progress: Progress, model: Model, { end, timedOut }: CallOutcome): { readonly model: Model; readonly delayMs: number } | undefined {
    if (end.kind === "finish") return undefined;
    const { random, config } = this.#parts.engine;
    // Nobody knows whether it was paid.
    if (end.of === "unknown" && config.onUnknown === "stop") return undefined;
    if (timedOut === "call") return undefined;
    const breaker = this.#breaker(model);
    if ((mayRetry(end) || end.of === "unknown") && progress.onModel < MAX_ATTEMPTS && breaker.admits()) {
      const delayMs = retryDelayMs(end, progress.onModel, random());
      progress.onModel += 1;
      return { model, delayMs };
    }
    if (end.status !== undefined && [400, 413, 422].includes(end.status)) return undefined; // the same anywhere
    const others = progress.models.slice(progress.models.indexOf(model) + 1);
    const other = others.find((one) => this.#breaker(one).admits());
    if (other === undefined) return undefined;
    progress.onModel = 1;
    return { model: other, delayMs: 0 };
  }

  #admitted(models: readonly Model[]): Model {
    const [first] = models;
    if (first === undefined)
      throw new CorralError("model_unknown", "no model is configured for this session; name one, or configure a route");
    const admitted = models.find((model) => this.#breaker(model).admits());
    if (admitted === undefined)
      throw new CorralError(
        "model_failed",
        `${models.map(modelId).join(", ")} failed often in the last minute and is not asked for a while; try again in 30 s`,
      );
    return admitted;
  }

  async #ended(begun: Begun, end: TurnEnd, last?: AttemptEnd): Promise<undefined> {
    await this.#parts.journal.end(begun, end, last);
    return undefined;
  }

  async #refused(turn: { readonly id: string; readonly sessionId: string }, error: unknown): Promise<void> {
    if (error instanceof LeaseLost) return;
    const end = refusedBy(error);
    if (end.error?.code === "internal" || end.error?.code === "store_unavailable") this.#parts.engine.onError(error);
    // Begun already: whoever looks for turns without a runner ends it.
    await this.#parts.journal.endQueued(turn, end).catch((again: unknown) => this.#parts.engine.onError(again));
  }

  #breaker(model: Model): Breaker {
    const id = modelId(model);
    let breaker = this.#breakers.get(id);
    if (breaker === undefined) {
      breaker = new Breaker(this.#parts.engine.clock);
      this.#breakers.set(id, breaker);
    }
    return breaker;
  }
}

interface Again {
  readonly progress: Progress;
  readonly next: { readonly model: Model; readonly delayMs: number };
  readonly running: Running;
}

/** What says something of the provider, and not of this one request. */
function isOutage({ of, status }: ModelFailure): boolean {
  return of !== "rejected" || status === undefined || status >= 500 || status === 429 || status === 408;
}

function lostOr({ of }: ModelFailure, state: "failed" | "dropped"): "failed" | "dropped" | "unknown" {
  return of === "unknown" ? "unknown" : state;
}

function failed({ end, timedOut }: CallOutcome, model: Model): TurnEnd {
  const said = end.kind === "failure" ? end.message : "";
  const stopReason: StopReason = timedOut === undefined ? "error" : "timeout";
  return { state: "error", stopReason, error: { code: "model_failed", message: `${modelId(model)}: ${said}` } };
}
