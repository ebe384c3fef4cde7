// A turn as it is told to whoever follows it: from its journal, from any place on, while it runs and ever after. Not a transport.
// Invariant: text behind a cursor is the same whenever it is asked for, before a kill and after; a follower never slows the turn.

import { CorralError } from "../../api/errors.ts";
import type { TurnFrame } from "../../api/loom.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { StepRecord, TurnRecord } from "../../store/loom-turns.ts";
import type { ModelText } from "../models/model.ts";

export interface FollowRequest {
  readonly turnId: string;
  /** Of the last frame that was seen; absent: from the beginning. */
  readonly after?: string;
  readonly signal?: AbortSignal;
}

export interface FollowParts {
  readonly loom: LoomTables;
  /** Resolves when something of the turn may have changed; also after a while, for a turn that another process runs. */
  readonly changed: (turnId: string, signal: AbortSignal | undefined) => Promise<void>;
}

/** Where a follower stands: the attempt, and characters of it. */
interface Cursor {
  attempt: number;
  offset: number;
}

const ENDS = new Set(["done", "error", "cancelled", "interrupted", "rolled-back"]);

/** Throws `turn_not_found`, `request_invalid`. */
export async function* follow({ loom, changed }: FollowParts, { turnId, after, signal }: FollowRequest): AsyncGenerator<TurnFrame> {
  const cursor = cursorOf(after);
  const chunks = new ChunkReader(loom, turnId);
  for (;;) {
    // The turn before its steps: an end that was read covers all that is read behind it.
    const turn = await loom.turns.get(turnId);
    if (turn === undefined) throw new CorralError("turn_not_found", `there is no turn ${turnId}`);
    const steps = await loom.turns.steps(turnId);
    for (const [i, step] of steps.entries()) {
      if (step.attempt < cursor.attempt) continue;
      if (step.attempt > cursor.attempt) Object.assign(cursor, { attempt: step.attempt, offset: 0 });
      const runs = step.state === "intent" ? await chunks.runs(step) : await settled(loom, turn, step);
      if (runs === undefined) break; // it was settled while it was read
      yield* behind(runs, cursor);
      if (i < steps.length - 1)
        yield { kind: "attempt-drop", cursor: written({ attempt: step.attempt + 1, offset: 0 }), attempt: step.attempt };
    }
    if (ENDS.has(turn.state)) {
      yield ending(turn, cursor);
      return;
    }
    if (isAborted(signal)) return;
    await changed(turnId, signal);
    if (isAborted(signal)) return;
  }
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted ?? false;
}

function* behind(runs: readonly ModelText[], cursor: Cursor): Generator<TurnFrame> {
  let start = 0;
  for (const { kind, text } of runs) {
    const seen = Math.max(0, cursor.offset - start);
    start += text.length;
    if (seen >= text.length) continue;
    cursor.offset = start;
    yield { kind: kind === "text" ? "text-chunk" : "reasoning-chunk", cursor: written(cursor), text: text.slice(seen) };
  }
}

async function settled({ blobs }: LoomTables, { sessionId }: TurnRecord, { resultHash, data }: StepRecord): Promise<readonly ModelText[]> {
  if (resultHash === null) return [];
  const text = await blobs.get(sessionId, resultHash);
  const lengths = (data?.["runs"] ?? []) as readonly (readonly [ModelText["kind"], number])[];
  let from = 0;
  return lengths.map(([kind, length]) => {
    from += length;
    return { kind, text: text.slice(from - length, from) };
  });
}

/** The chunks of the attempt that runs. Each is read once. */
class ChunkReader {
  readonly #loom: LoomTables;
  readonly #turnId: string;
  #attempt = 0;
  #runs: ModelText[] = [];

  constructor(loom: LoomTables, turnId: string) {
    this.#loom = loom;
    this.#turnId = turnId;
  }

  /** `undefined`: they are no longer there. */
  async runs({ n, attempt }: StepRecord): Promise<readonly ModelText[] | undefined> {
    if (attempt !== this.#attempt) this.#runs = [];
    this.#attempt = attempt;
    const found = await this.#loom.turns.chunks(this.#turnId, { n, attempt, from: this.#runs.length });
    this.#runs.push(...found.map(({ kind, body }) => ({ kind, text: body })));
    // Gone with the end of the attempt, the first of them too: then what was read has a hole.
    const first = found[0];
    return first !== undefined && first.i !== this.#runs.length - found.length ? undefined : this.#runs;
  }
}

function ending({ state, stopReason, error, endedAt }: TurnRecord, cursor: Cursor): TurnFrame {
  const told = error === null ? {} : { error };
  return { kind: "turn-end", cursor: written(cursor), state, stopReason: stopReason ?? "error", at: endedAt ?? 0, ...told };
}

function written({ attempt, offset }: Cursor): string {
  return `1.${attempt}.${offset}`;
}

function cursorOf(text: string | undefined): Cursor {
  if (text === undefined) return { attempt: 1, offset: 0 };
  const match = /^1\.(\d{1,6})\.(\d{1,9})$/.exec(text);
  if (match === null)
    throw new CorralError("request_invalid", "after: not the id of a frame of this turn; follow from the beginning without it");
  return { attempt: Number(match[1]), offset: Number(match[2]) };
}
