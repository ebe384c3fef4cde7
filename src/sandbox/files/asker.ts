// Requests to the worker of a sandbox's files, whichever worker that is: starts one when there is none, counts calls, turns the kernel's no
// into an error with the path. Invariant: a call of a sandbox that is going away is refused before anything is started; a call that reads is
// asked once more when its worker was ended by somebody, one that writes never.

import { CorralError, errorCode } from "../../api/errors.ts";
import { MAX_FILE_CALLS, MAX_OPEN_FILES } from "../../api/limits.ts";
import type { Container } from "../../runtime/runtime.ts";
import type { QuotaHit } from "../watcher.ts";
import { fileError } from "./errors.ts";
import type { AnswerReader, WireRequest } from "./wire.ts";
import { FileErrno, FileWorker } from "./worker.ts";
import { demandWanted } from "../wanted.ts";

export interface FilesContext {
  readonly container: Container;
  /** Why nothing can be asked of the sandbox, if so. */
  readonly refusal: () => CorralError | undefined;
  /** Called when something is written; what it returns is called afterwards. `hit`: the delta passed its limit meanwhile. */
  readonly guard: (hit: (limit: QuotaHit) => void) => () => void;
  /** The limit that the delta was above when it was last measured. */
  readonly over: () => QuotaHit | undefined;
}

/** How a request is told when it fails, and what may be done about it. */
export interface Telling {
  /** `read`, `moved to "/b"`: what could not be done. */
  readonly verb: string;
  /** The caller's path, for messages. */
  readonly shown: string;
  readonly signal?: AbortSignal | undefined;
}

const SLOT_WAIT_MS = 30_000;

export class Asker {
  readonly #context: FilesContext;
  #worker: FileWorker | undefined;
  #calls = 0;
  #open = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(context: FilesContext) {
    this.#context = context;
  }

  /** A request that changes nothing. */
  async look<T>(request: WireRequest, read: (answer: AnswerReader) => T, telling: Telling): Promise<T> {
    try {
      return await this.change(request, read, telling);
    } catch (error) {
      if (errorCode(error) !== "worker_lost") throw error;
      return await this.change(request, read, telling);
    }
  }

  async change<T>(request: WireRequest, read: (answer: AnswerReader) => T, telling: Telling): Promise<T> {
    return await this.on(this.worker(), request, read, telling);
  }

  /** Of one worker: a handle of it is nothing to another. */
  async on<T>(worker: FileWorker, request: WireRequest, read: (answer: AnswerReader) => T, telling: Telling): Promise<T> {
    demandWanted(telling.signal);
    if (this.#calls >= MAX_FILE_CALLS)
      throw new CorralError("limit_reached", `${MAX_FILE_CALLS} calls for files of this sandbox wait already; try again`);
    this.#calls += 1;
    const asked = worker.ask(request, read).finally(() => (this.#calls -= 1));
    try {
      return await unlessAborted(asked, telling.signal);
    } catch (error) {
      throw error instanceof FileErrno ? fileError(error.errno, telling.verb, telling.shown) : error;
    }
  }

  worker(): FileWorker {
    const refusal = this.#context.refusal();
    if (refusal !== undefined) throw refusal;
    this.#worker ??= new FileWorker(this.#context.container, () => {
      this.#worker = undefined;
    });
    return this.#worker;
  }

  /** A place among the open files; call what is returned when it is closed. */
  async slot(): Promise<() => void> {
    if (this.#open >= MAX_OPEN_FILES) await this.#turn();
    this.#open += 1;
    return () => {
      this.#open -= 1;
      this.#waiting.shift()?.();
    };
  }

  /** Runs what writes: refused while the delta is above its limit, and told to stop by `full` when it gets there. */
  async writing<T>(shown: string, act: (full: () => void) => Promise<T>): Promise<T> {
    const { guard, over } = this.#context;
    let hit = over();
    const full = (): void => {
      if (hit !== undefined)
        throw new CorralError("limit_reached", `${shown} cannot be written: the sandbox is above its ${hit} limit; remove something`);
    };
    full();
    const release = guard((limit) => {
      hit = limit;
    });
    try {
      return await act(full);
    } finally {
      release();
    }
  }

  async #turn(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1);
      reject(new CorralError("limit_reached", `${MAX_OPEN_FILES} files of this sandbox are being read or written; end one of them`));
    }, SLOT_WAIT_MS);
    this.#waiting.push(resolve);
    await promise.finally(() => clearTimeout(timer));
  }
}

/** The work goes on; who asked for it no longer waits. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(new CorralError("canceled", "the call was canceled"));
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    work.catch(() => undefined);
  }
}
