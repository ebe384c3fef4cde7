// One sandbox as the server holds it: the connection to its guest and the request that ends it. Not trusted to be polite: the guest
// lives beside hostile code. Invariant: a frame that a correct guest could not send destroys this sandbox and no other; memory
// held for it is bounded whatever it sends; `destroy` is asked of the spawner once.

import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CorralError } from "../../api/errors.ts";
import { MAX_EXECS } from "../../api/limits.ts";
import type { ContainerUsage } from "../../api/metrics.ts";
import type { OverlayMount } from "../../view/view.ts";
import type { Container, GuestAttach, GuestExec, GuestProcess, KeptCommand, LateSpec } from "../runtime.ts";
import { Attached, checkKey, Exec, type ExecOwner } from "./exec.ts";
import { type Frame, FrameReader, FrameWriter, GUEST, strings } from "./frames.ts";
import { type Handshake, parseReady } from "./handshake.ts";
import { parseKept } from "./kept.ts";
import type { Death } from "./spawner.ts";

/** What a guest may leave unread of what we sent, bytes: one that stops reading is broken. */
const MAX_UNSENT_BYTES = 64 * 1024 * 1024;
/** READY after the connection. Steps 8 to 23 take a millisecond; a loaded machine gets time. */
const READY_MS = 20_000;
/** How long a closed connection waits for the spawner's word on why. */
const REASON_MS = 200;
/** How long a guest may take to stop its clock before it is frozen. */
const HOLD_MS = 500;
/** How long processes may take to stand still, and the longest time between two looks. */
const FREEZE_MS = 5_000;
const MAX_PAUSE_MS = 50;

export interface ContainerParts {
  readonly id: string;
  readonly socketPath: string;
  /** Read buffer of all connections of a runtime: what comes is consumed before the next read. */
  readonly readBuffer: Buffer;
  readonly timings: Readonly<Record<string, number>>;
  readonly weakenings: readonly string[];
  readonly end: (scrub: readonly string[]) => Promise<void>;
  /** Asks for the state, and tells whether all of it stands still. */
  readonly freeze: (frozen: boolean) => Promise<boolean>;
  readonly measure: () => Promise<ContainerUsage>;
  readonly mount: (late: OverlayMount) => Promise<void>;
  readonly lateEnv: Readonly<Record<string, string>>;
  /** It is gone, for whatever reason; called once. */
  readonly onGone: () => void;
}

/** A request of the container itself. `take` is called once: with its answer, or with nothing when the sandbox is gone. */
interface Asked {
  readonly answer: number;
  readonly take: (frame: Frame | undefined) => void;
}

export class GuestContainer implements Container, ExecOwner {
  readonly id: string;
  readonly timings: Readonly<Record<string, number>>;
  readonly weakenings: readonly string[];
  readonly lost: Promise<string>;
  readonly writer: FrameWriter;
  readonly ready: Promise<Handshake>;
  readonly #parts: ContainerParts;
  readonly #socket: Socket;
  #lateEnv: Readonly<Record<string, string>>;
  readonly #execs = new Map<number, Exec | Attached>();
  readonly #asked = new Map<number, Asked>();
  readonly #lost = Promise.withResolvers<string>();
  readonly #ready = Promise.withResolvers<Handshake>();
  readonly #death = Promise.withResolvers<Death>();
  #deathCode: Death["code"] = "create_failed";
  #nextId = 1;
  #isReady = false;
  /** Why nothing can be asked of it any more. */
  #over: string | undefined;
  #destroyed: Promise<void> | undefined;
  /** The cleaning that followed its loss. */
  #cleaned: Promise<void> = Promise.resolve();

  constructor(parts: ContainerParts) {
    this.#parts = parts;
    this.#lateEnv = parts.lateEnv;
    this.id = parts.id;
    this.timings = parts.timings;
    this.weakenings = parts.weakenings;
    this.lost = this.#lost.promise;
    this.ready = this.#ready.promise;
    this.ready.catch(() => undefined); // whoever awaits it sees it; a destroy before that is no unhandled rejection
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    const onRead = (length: number, buffer: Uint8Array): boolean => {
      try {
        reader.push(buffer as Buffer, length);
      } catch (error) {
        this.broke((error as Error).message);
      }
      return true;
    };
    this.#socket = connect({ path: parts.socketPath, onread: { buffer: parts.readBuffer, callback: onRead } });
    this.writer = new FrameWriter({ write: (bytes) => this.#write(bytes) });
    this.#socket.on("error", () => this.#socket.destroy());
    this.#socket.on("close", () => void this.#closed());
    const timer = setTimeout(() => this.broke(`no READY within ${READY_MS} ms`), READY_MS);
    const stop = (): void => clearTimeout(timer);
    this.ready.then(stop, stop);
  }

  async bind({ mount, env }: LateSpec): Promise<void> {
    this.#refuseIfOver();
    await this.#parts.mount(mount);
    this.#lateEnv = env;
  }

  exec(request: GuestExec): GuestProcess {
    // Of its own process: PID 1 keeps what every sandbox of the kind starts from, and not what is somebody's.
    const env = { ...this.#lateEnv, ...request.env };
    return this.#hear((id) => new Exec(id, { ...request, env }, this));
  }

  attach(key: string, offset: number, sinks: GuestAttach): GuestProcess {
    checkKey(key);
    return this.#hear((id) => new Attached(id, { key, offset }, sinks, this));
  }

  async kept(): Promise<readonly KeptCommand[]> {
    const list = await this.#answered(GUEST.list, GUEST.kept, (frame) => parseKept(strings(frame)));
    this.#refuseIfOver();
    return list ?? [];
  }

  forget(key: string): void {
    this.#refuseIfOver();
    this.writer.send(GUEST.forget, this.#id(), Buffer.from(`${checkKey(key)}\0`, "latin1"));
  }

  #hear<T extends Exec | Attached>(make: (id: number) => T): T {
    this.#refuseIfOver();
    if (this.#execs.size >= MAX_EXECS)
      throw new CorralError("limit_reached", `the sandbox runs ${MAX_EXECS} commands already; wait for one to end`);
    const exec = make(this.#id());
    this.#execs.set(exec.id, exec);
    return exec;
  }

  /** Resolves when the guest has answered, after all that was asked before. */
  ping(): Promise<void> {
    return this.#answered(GUEST.ping, GUEST.pong);
  }

  async freeze(): Promise<void> {
    // A guest that does not answer is not waited for: it is then frozen in the middle of its time.
    await Promise.race([this.#answered(GUEST.hold, GUEST.pong), sleep(HOLD_MS, undefined, { ref: false })]);
    const deadline = performance.now() + FREEZE_MS;
    let pause = 1;
    while (!(await this.#parts.freeze(true))) {
      this.#refuseIfOver();
      if (performance.now() > deadline) {
        await this.thaw();
        throw new CorralError("sandbox_state", `the sandbox ${this.id} does not come to rest (a process is busy with a disk); try again`);
      }
      await sleep(pause);
      pause = Math.min(pause * 2, MAX_PAUSE_MS);
    }
  }

  async thaw(): Promise<void> {
    await this.#parts.freeze(false);
    await this.#answered(GUEST.release, GUEST.pong);
  }

  async usage(): Promise<ContainerUsage> {
    this.#refuseIfOver();
    try {
      return await this.#parts.measure();
    } catch (error) {
      this.#refuseIfOver(); // it went meanwhile
      throw error;
    }
  }

  destroy(scrub: readonly string[] = [], why = "the sandbox was destroyed"): Promise<void> {
    this.#destroyed ??= this.#over === undefined ? this.#take(scrub, why) : this.#takeRest(scrub);
    return this.#destroyed;
  }

  /** The spawner says that PID 1 has ended. */
  died(death: Death): void {
    this.#death.resolve(death);
    this.#deathCode = death.code;
    this.#lose(death.reason);
  }

  ended(id: number): void {
    this.#execs.delete(id);
  }

  broke(what: string): void {
    this.#lose(`its guest broke the protocol: ${what}`);
  }

  /** Resolves with its answer, or with nothing when it is gone. */
  #answered(type: number, answer: number): Promise<undefined>;
  #answered<T>(type: number, answer: number, read: (frame: Frame) => T): Promise<T | undefined>;
  #answered<T>(type: number, answer: number, read?: (frame: Frame) => T): Promise<T | undefined> {
    this.#refuseIfOver();
    const id = this.#id();
    const { promise, resolve } = Promise.withResolvers<T | undefined>();
    // What `read` throws ends the connection, as all that a guest may not send.
    this.#asked.set(id, { answer, take: (frame) => resolve(frame === undefined ? undefined : read?.(frame)) });
    this.writer.send(type, id);
    return promise;
  }

  #refuseIfOver(): void {
    if (this.#over !== undefined) throw new CorralError("sandbox_lost", `the sandbox takes no more requests: ${this.#over}`);
  }

  #id(): number {
    const id = this.#nextId;
    this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
    return this.#execs.has(id) || this.#asked.has(id) ? this.#id() : id;
  }

  #write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.broke("it does not read what it is sent");
  }

  #onFrame(frame: Frame): void {
    const { type, id, buffer, start, end } = frame;
    if (this.#over !== undefined) return;
    if (!this.#isReady) {
      if (type !== GUEST.ready || id !== 0) return this.broke(`a frame of type ${type} before READY`);
      this.#isReady = true;
      this.#ready.resolve(parseReady(strings(frame)));
      return;
    }
    const exec = this.#execs.get(id);
    if (exec === undefined) return this.#onOther(frame);
    switch (type) {
      case GUEST.stdout:
        return exec.output("stdout", buffer.subarray(start, end));
      case GUEST.stderr:
        return exec.output("stderr", buffer.subarray(start, end));
      case GUEST.control:
        return exec.output("control", buffer.subarray(start, end));
      default:
        return exec.frame(frame);
    }
  }

  #onOther(frame: Frame): void {
    const asked = this.#asked.get(frame.id);
    if (asked?.answer !== frame.type) return this.broke(`a frame of type ${frame.type} that belongs to no command`);
    asked.take(frame);
    this.#asked.delete(frame.id);
  }

  async #closed(): Promise<void> {
    if (this.#over !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(resolve, REASON_MS, undefined);
    const death = await Promise.race([this.#death.promise, promise]);
    clearTimeout(timer);
    this.#lose(death?.reason ?? "its guest closed the connection");
  }

  #lose(reason: string): void {
    if (this.#over !== undefined) return;
    this.#cleaned = this.#take([], reason);
    // A failure to clean is told to whoever destroys it, and else by the journal at the next start.
    this.#cleaned.catch(() => undefined);
    this.#lost.resolve(reason);
  }

  /** After a loss: what the cleaning then left, and the trees. */
  async #takeRest(scrub: readonly string[]): Promise<void> {
    await this.#cleaned;
    if (scrub.length > 0) await this.#parts.end(scrub);
  }

  async #take(scrub: readonly string[], reason: string): Promise<void> {
    this.#over = reason;
    this.writer.close();
    this.#socket.destroy();
    if (!this.#isReady) this.#ready.reject(new CorralError(this.#deathCode, `the sandbox ended before it was ready: ${reason}`));
    for (const exec of [...this.#execs.values()]) exec.lost(reason);
    for (const { take } of this.#asked.values()) take(undefined);
    this.#asked.clear();
    try {
      await this.#parts.end(scrub);
    } finally {
      this.#parts.onGone();
    }
  }
}
