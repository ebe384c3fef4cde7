// One attempt at one model: its text as it comes, its time-outs, its end. Not retries: those are the runner's. Invariant: a time-out aborts
// the connection; whatever happens there is one outcome, and text that came is in it.

import { type Alarms } from "../../base/alarm.ts";
import type { Model, ModelCall, ModelFailure, ModelFinish, ModelText } from "../models/model.ts";
import type { TurnTimeouts } from "./parts.ts";

export interface CallOutcome {
  readonly end: ModelFinish | ModelFailure;
  /** In the order it came, neighbours of one kind joined. */
  readonly runs: readonly ModelText[];
  /** Which time-out ended it. */
  readonly timedOut?: "first-chunk" | "between-chunks" | "call";
}

export interface CallRequest extends Omit<ModelCall, "signal"> {
  readonly model: Model;
  readonly signal: AbortSignal;
  readonly alarms: Alarms;
  readonly timeouts: TurnTimeouts;
  readonly onText: (text: ModelText) => void;
}

/** Text of one reply beyond this ends the call, characters. */
const MAX_REPLY = 8 * 1024 ** 2;

export async function callModel(request: CallRequest): Promise<CallOutcome> {
  const { model, signal, alarms, timeouts, onText, ...call } = request;
  const own = new AbortController();
  let timedOut: CallOutcome["timedOut"];
  const stop = (why: NonNullable<CallOutcome["timedOut"]>) => (): void => {
    timedOut ??= why;
    own.abort();
  };
  const onAbort = (): void => own.abort();
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) own.abort();
  const callOff = alarms.after(timeouts.callMs, stop("call"));
  let off = alarms.after(timeouts.firstChunkMs, stop("first-chunk"));
  const runs: { kind: ModelText["kind"]; text: string }[] = [];
  let length = 0;
  const iterator = model.stream({ ...call, signal: own.signal })[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await untilAborted(iterator.next(), own.signal);
      if (next === undefined) return outcome(calledOff(runs.length > 0, timedOut), runs, timedOut);
      const part = next.done === true ? undefined : next.value;
      // A stream that ends without saying so is a cut one.
      if (part === undefined)
        return outcome(failure(runs.length > 0 ? "partial" : "unknown", "the stream ended without an end"), runs, timedOut);
      if (part.kind === "finish" || part.kind === "failure") return outcome(part, runs, timedOut);
      off();
      off = alarms.after(timeouts.betweenChunksMs, stop("between-chunks"));
      if (part.text === "") continue;
      const last = runs.at(-1);
      if (last?.kind === part.kind) last.text += part.text;
      else runs.push({ kind: part.kind, text: part.text });
      length += part.text.length;
      if (length > MAX_REPLY) return outcome(failure("partial", `the reply is longer than ${MAX_REPLY} characters`), runs, timedOut);
      onText(part);
    }
  } catch (error) {
    // A model never throws; one that does is a defect of ours and still one failure.
    return outcome(
      failure(runs.length > 0 ? "partial" : "unknown", `the model's part failed: ${(error as Error).message}`),
      runs,
      timedOut,
    );
  } finally {
    off();
    callOff();
    signal.removeEventListener("abort", onAbort);
    own.abort();
    void iterator.return?.(undefined).catch(() => undefined);
  }
}

/** `undefined`: aborted first. A provider that hangs must not hold the turn. */
async function untilAborted<T>(next: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) return undefined;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const wake = (): void => resolve(undefined);
  signal.addEventListener("abort", wake);
  try {
    return await Promise.race([next, promise]);
  } finally {
    signal.removeEventListener("abort", wake);
    next.catch(() => undefined);
  }
}

function outcome(end: CallOutcome["end"], runs: readonly ModelText[], timedOut: CallOutcome["timedOut"]): CallOutcome {
  return timedOut === undefined || end.kind === "finish" ? { end, runs } : { end, runs, timedOut };
}

function failure(of: ModelFailure["of"], message: string): ModelFailure {
  return { kind: "failure", of, message };
}

function calledOff(partial: boolean, timedOut: CallOutcome["timedOut"]): ModelFailure {
  return failure(partial ? "partial" : "unknown", timedOut === undefined ? "the call was called off" : `no answer in time (${timedOut})`);
}
