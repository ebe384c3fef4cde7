// The engine of turns in one process: takes turns in, runs them in their order, goes on with those of a process that died. Not who may ask, and
// no transport. Invariant: every turn that was taken in reaches an end, here or in the next process; one turn of a session runs at a time.

import { Bell } from "../../base/bell.ts";
import { CorralError } from "../../api/errors.ts";
import type { TurnFrame } from "../../api/loom.ts";
import type { TurnRecord } from "../../store/loom-turns.ts";
import { accept, type Accepted, type SendRequest } from "./accept.ts";
import { Flusher } from "./flusher.ts";
import { follow, type FollowRequest } from "./follow.ts";
import { Journal, LeaseLost } from "./journal.ts";
import type { EngineParts } from "./parts.ts";
import { TurnQueue, type Waiting } from "./queue.ts";
import { recover } from "./recover.ts";
import { type CallOff, Runner, Running } from "./runner.ts";

/** How often turns are looked for that nobody runs, and how long a follower waits at most before it looks again, ms. */
const LOOK_MS = 2_000;

export class Engine implements AsyncDisposable {
  readonly #parts: EngineParts;
  readonly #journal: Journal;
  readonly #flusher: Flusher;
  readonly #runner: Runner;
  readonly #queue: TurnQueue;
  readonly #running = new Map<string, Running>();
  readonly #known = new Set<string>();
  readonly #bells = new Map<string, { readonly bell: Bell; waiting: number }>();
  readonly #work = new Set<Promise<void>>();
  #closed = false;
  #offLook: (() => void) | undefined;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#journal = new Journal(parts);
    this.#flusher = new Flusher({
      ...{ alarms: parts.alarms, flushMs: parts.config.flushMs, onError: parts.onError },
      write: (chunks) => parts.store.transaction(({ loom }) => loom.turns.addChunks(chunks)),
      kept: (turnId) => this.#ring(turnId),
    });
    this.#runner = new Runner({ engine: parts, journal: this.#journal, flusher: this.#flusher });
    this.#queue = new TurnQueue(parts.config);
  }

  /** Goes on with what a process before left, then looks for more from time to time. */
  async start(): Promise<void> {
    await this.#look();
  }

  /** Turns that run and that wait here. */
  get load(): { readonly running: number; readonly waiting: number } {
    return { running: this.#running.size, waiting: this.#queue.size };
  }

  /** Throws `session_not_found`, `turn_not_found`, `session_busy`, `head_moved`, `idempotency_conflict`, `overloaded`, `request_invalid`. */
  async send(request: SendRequest): Promise<Accepted> {
    this.#demandOpen();
    if (this.#queue.size >= this.#parts.config.queueMax)
      throw new CorralError("overloaded", `${this.#queue.size} turns wait already; try again later`);
    const accepted = await accept(this.#parts, request);
    if (!accepted.replayed) this.#comes(request, accepted);
    await this.#parts.store.settled();
    return accepted;
  }

  #comes(request: SendRequest, accepted: Accepted): void {
    const why: CallOff = request.onBusy === "rollback" ? "rollback" : "interrupt";
    for (const id of accepted.calledOff) this.#running.get(id)?.callOff(why);
    this.#enqueue(accepted.turn, accepted.session.ownerId);
    this.#pump();
  }

  /** A turn that has ended stays as it is. Throws `turn_not_found`. */
  async cancel(turnId: string): Promise<void> {
    const turn = await this.#turn(turnId);
    if (turn.state === "queued") {
      this.#queue.remove(turnId);
      const ended = await this.#journal.endQueued(turn, { state: "cancelled", stopReason: "cancelled" }).catch(ifBegun);
      if (ended) {
        this.#known.delete(turnId);
        await this.#parts.store.settled();
        return this.#ring(turnId);
      }
    }
    this.#running.get(turnId)?.callOff("cancel");
  }

  /** Ends with the turn. A follower who goes away changes nothing. Throws `turn_not_found`, `request_invalid`. */
  follow(request: FollowRequest): AsyncGenerator<TurnFrame> {
    return follow({ loom: this.#parts.store.loom, changed: (turnId, signal) => this.#changed(turnId, signal) }, request);
  }

  /** Resolves with the turn when it has ended, or with how it is when the signal fires. */
  async ended(turnId: string, signal?: AbortSignal): Promise<TurnRecord> {
    for (;;) {
      const turn = await this.#turn(turnId);
      if ((turn.state !== "queued" && turn.state !== "running" && turn.state !== "waiting") || signal?.aborted === true) return turn;
      await this.#changed(turnId, signal);
    }
  }

  /** Calls off what runs, waits for it, and takes nothing more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#offLook?.();
    for (const running of this.#running.values()) running.callOff("interrupt");
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    await this.#flusher.flushed();
  }

  async #turn(id: string): Promise<TurnRecord> {
    const turn = await this.#parts.store.loom.turns.get(id);
    if (turn === undefined) throw new CorralError("turn_not_found", `there is no turn ${id}`);
    return turn;
  }

  #enqueue({ id, sessionId, priority }: TurnRecord, ownerId: string): void {
    if (this.#known.has(id)) return;
    this.#known.add(id);
    this.#queue.add({ id, sessionId, ownerId, priority, since: this.#parts.clock.monotonicMs() });
  }

  #pump(): void {
    if (this.#closed) return;
    for (let next = this.#take(); next !== undefined; next = this.#take()) {
      const waiting = next;
      this.#runs(waiting, (running) => this.#runner.run(waiting.id, running));
    }
  }

  #take(): Waiting | undefined {
    return this.#queue.take(this.#parts.clock.monotonicMs());
  }

  /** Keeps a turn's run until its end, whatever that is. */
  #runs(waiting: Waiting, act: (running: Running) => Promise<void>): void {
    const running = new Running();
    this.#running.set(waiting.id, running);
    const work = act(running)
      .catch((error: unknown) => {
        if (!(error instanceof LeaseLost)) this.#parts.onError(error);
      })
      .then(() => this.#parts.store.settled())
      .catch(this.#parts.onError)
      .finally(() => {
        this.#running.delete(waiting.id);
        this.#known.delete(waiting.id);
        this.#queue.done(waiting);
        this.#work.delete(work);
        this.#ring(waiting.id);
        this.#pump();
      });
    this.#work.add(work);
  }

  /** Finds turns that nobody runs: of writers that died, of a store that failed meanwhile, of other processes that did not come to them. */
  async #look(): Promise<void> {
    const { store } = this.#parts;
    try {
      for (const { turn, resume } of await recover(this.#parts, this.#journal, (id) => this.#running.has(id))) {
        if (resume === undefined) this.#ring(turn.id);
        else {
          const { begun, attempt, spentNano } = resume;
          const { id, sessionId, priority } = turn;
          const waiting = { id, sessionId, ownerId: begun.session.ownerId, priority, since: this.#parts.clock.monotonicMs() };
          this.#runs(waiting, (running) => this.#runner.resume(begun, { attempt, spentNano }, running));
        }
      }
      for (const turn of await store.loom.turns.queued()) {
        const session = this.#known.has(turn.id) ? undefined : await store.loom.sessions.get(turn.sessionId);
        if (session !== undefined) this.#enqueue(turn, session.ownerId);
      }
      this.#pump();
    } catch (error) {
      this.#parts.onError(error);
    }
    if (!this.#closed) this.#offLook = this.#parts.alarms.after(LOOK_MS, () => void this.#look());
  }

  #ring(turnId: string): void {
    this.#bells.get(turnId)?.bell.ring();
  }

  async #changed(turnId: string, signal: AbortSignal | undefined): Promise<void> {
    const held = this.#bells.get(turnId) ?? { bell: new Bell(), waiting: 0 };
    this.#bells.set(turnId, held);
    held.waiting += 1;
    const off = this.#parts.alarms.after(LOOK_MS, () => held.bell.ring());
    await held.bell.wait(signal);
    off();
    held.waiting -= 1;
    if (held.waiting === 0) this.#bells.delete(turnId);
  }

  #demandOpen(): void {
    if (this.#closed) throw new CorralError("overloaded", "the server is ending; ask again when it is back");
  }
}

function ifBegun(error: unknown): boolean {
  if (error instanceof LeaseLost) return false;
  throw error;
}
