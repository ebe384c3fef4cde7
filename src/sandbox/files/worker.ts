// One worker `files` in a sandbox as the host holds it: requests in order, each with its answer. The worker lives beside hostile code and may
// be it. Invariant: an answer is taken for the oldest request alone, by its id; whatever else comes ends this worker and nothing else;
// memory is bounded by what was asked for.

import { constants } from "node:os";
import { CorralError } from "../../api/errors.ts";
import { FILE_WORKER_ANSWER_MS, FILE_WORKER_IDLE_MS } from "../../api/limits.ts";
import { type Frame, FrameReader } from "../../runtime/native/frames.ts";
import type { Container, GuestExit, GuestProcess } from "../../runtime/runtime.ts";
import { ANSWER, AnswerReader, encode, Lie, type WireRequest } from "./wire.ts";
import { startWorker } from "../worker-exec.ts";

interface Pending {
  readonly id: number;
  readonly read: (answer: AnswerReader) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The kernel's answer to a request. */
export class FileErrno extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export class FileWorker {
  readonly #process: GuestProcess;
  readonly #onEnd: () => void;
  readonly #pending: Pending[] = [];
  readonly #reader = new FrameReader((frame) => this.#answer(frame));
  #next = 1;
  #over: CorralError | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Handles that are open: as long as there are some it is not idle. */
  #held = 0;

  /** `onEnd`: it takes no more requests; called once. */
  constructor(container: Container, onEnd: () => void) {
    this.#onEnd = onEnd;
    this.#process = startWorker(container, ["files"], {
      onOutput: (stream, chunk) => this.#output(stream, chunk),
      onExit: (exit) => this.#end(exitError(exit)),
      onLost: (reason) => this.#end(new CorralError("sandbox_lost", `the sandbox ended while its files were asked: ${reason}`)),
    });
  }

  /** What `read` makes of the answer. Throws FileErrno for the kernel's no. */
  ask<T>(request: WireRequest, read: (answer: AnswerReader) => T): Promise<T> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const id = this.#next;
    this.#next = id === 0xffff_ffff ? 1 : id + 1;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#pending.push({ id, read, resolve: resolve as (value: unknown) => void, reject });
    if (this.#pending.length === 1) this.#wait();
    void this.#process.write(encode(id, request));
    return promise;
  }

  hold(): () => void {
    this.#held += 1;
    return () => {
      this.#held -= 1;
      this.#wait();
    };
  }

  #output(stream: "stdout" | "stderr", chunk: Uint8Array): boolean {
    if (this.#over !== undefined || stream === "stderr") return true;
    try {
      this.#reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), chunk.byteLength);
    } catch (error) {
      this.#lied(error instanceof Error ? error.message : String(error));
    }
    return true;
  }

  #answer({ type, id, buffer, start, end }: Frame): void {
    const [oldest] = this.#pending;
    if (this.#over !== undefined) return;
    if (oldest === undefined || oldest.id !== id) return this.#lied("an answer that nothing was asked for");
    // The frame is the reader's again when this returns.
    const answer = new AnswerReader(Buffer.from(buffer.subarray(start, end)));
    try {
      if (type === ANSWER.error) {
        const errno = answer.u32();
        answer.end();
        this.#settle(oldest).reject(new FileErrno(errno));
      } else if (type === ANSWER.ok) {
        const value = oldest.read(answer);
        answer.end();
        this.#settle(oldest).resolve(value);
      } else throw new Lie(`a frame of type ${type}`);
    } catch (error) {
      if (!(error instanceof Lie)) throw error;
      this.#lied(error.message);
    }
  }

  #settle(oldest: Pending): Pending {
    this.#pending.shift();
    this.#wait();
    return oldest;
  }

  /** Nothing asked: it ends after a while. Something asked: it has so long to answer. */
  #wait(): void {
    clearTimeout(this.#timer);
    if (this.#over !== undefined) return;
    if (this.#pending.length > 0) {
      this.#timer = setTimeout(() => {
        this.#kill(
          new CorralError("worker_lost", `the sandbox's files did not answer within ${FILE_WORKER_ANSWER_MS / 1000} s; try again`),
        );
      }, FILE_WORKER_ANSWER_MS);
    } else if (this.#held === 0) {
      this.#timer = setTimeout(() => {
        this.#end(new CorralError("worker_lost", "it was idle"));
        this.#process.closeStdin();
      }, FILE_WORKER_IDLE_MS);
      this.#timer.unref();
    }
  }

  #lied(what: string): void {
    this.#kill(new CorralError("guest_protocol", `what serves files in the sandbox broke its protocol (${what}); it was ended, try again`));
  }

  #kill(error: CorralError): void {
    if (this.#over !== undefined) return;
    this.#process.signal(constants.signals.SIGKILL, true);
    this.#end(error);
  }

  #end(error: CorralError): void {
    if (this.#over !== undefined) return;
    this.#over = error;
    clearTimeout(this.#timer);
    this.#onEnd();
    for (const { reject } of this.#pending.splice(0)) reject(error);
  }
}

function exitError(exit: GuestExit): CorralError {
  if (exit.startErrno !== 0)
    return new CorralError("limit_reached", "the sandbox has no process or memory left to serve its files with; stop something in it");
  if (exit.memoryHit) return new CorralError("limit_reached", "what serves files in the sandbox was ended: the sandbox has no memory left");
  return new CorralError("worker_lost", "what serves files in the sandbox was ended by something in it; try again");
}
