// Watches of directories: each is a worker `watch` in the sandbox, whose events are hostile data. Invariant: events wait in a bounded number,
// beyond which the worker is not read and the kernel tells what was lost; a loop that is left ends its worker.

import { constants } from "node:os";
import { CorralError } from "../../api/errors.ts";
import type { FileEvent } from "../../api/files.ts";
import { MAX_PATH_BYTES, MAX_WAITING_EVENTS, MAX_WATCHES } from "../../api/limits.ts";
import { type Frame, FrameReader } from "../../runtime/native/frames.ts";
import type { Container, GuestExit, GuestProcess } from "../../runtime/runtime.ts";
import type { FilesContext } from "./asker.ts";
import { fileError } from "./errors.ts";
import { type AskedPath, joined, toldPath } from "./path.ts";
import { AnswerReader, Lie } from "./wire.ts";
import { startWorker } from "../worker-exec.ts";
import { demandWanted } from "../wanted.ts";

const TOLD = { ready: 64, event: 65, overflow: 66, gone: 67, failed: 68 } as const;
const KINDS = ["", "create", "modify", "remove", "move-from", "move-to", "attrib"] as const;

type Untold = Omit<FileEvent, "id">;

export class Watches {
  readonly #context: FilesContext;
  #count = 0;

  constructor(context: FilesContext) {
    this.#context = context;
  }

  async *watch(
    asked: AskedPath,
    { recursive, signal }: { recursive?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<FileEvent, void, void> {
    demandWanted(signal);
    const refusal = this.#context.refusal();
    if (refusal !== undefined) throw refusal;
    if (toldPath(asked.bytes).base64 !== undefined)
      throw new CorralError("request_invalid", `${asked.shown} cannot be watched: its name is not UTF-8; watch the directory above it`);
    if (this.#count >= MAX_WATCHES)
      throw new CorralError("limit_reached", `${MAX_WATCHES} directories of this sandbox are watched already; end one of those watches`);
    this.#count += 1;
    const watch = new Watch(this.#context.container, asked, recursive === true);
    const abort = (): void => watch.end(new CorralError("canceled", "the watch was canceled"));
    signal?.addEventListener("abort", abort, { once: true });
    try {
      for (let id = 1; ; id++) {
        const event = await watch.next();
        if (event === undefined) return;
        yield { id, ...event };
      }
    } finally {
      this.#count -= 1;
      signal?.removeEventListener("abort", abort);
      watch.end(undefined);
    }
  }
}

class Watch {
  readonly #asked: AskedPath;
  readonly #process: GuestProcess;
  readonly #reader = new FrameReader((frame) => this.#told(frame));
  #events: Untold[] = [];
  #at = 0;
  /** Bytes that came while too many events waited. */
  #owed = 0;
  #wake: (() => void) | undefined;
  #over = false;
  #error: CorralError | undefined;

  constructor(container: Container, asked: AskedPath, recursive: boolean) {
    this.#asked = asked;
    this.#process = startWorker(container, ["watch", recursive ? "recursive" : "flat", asked.bytes.toString("utf8")], {
      onOutput: (stream, chunk) => this.#output(stream, chunk),
      onExit: (exit) => this.end(exitError(exit, asked)),
      onLost: (reason) => this.end(new CorralError("sandbox_lost", `the sandbox ended while ${asked.shown} was watched: ${reason}`)),
    });
  }

  /** `undefined`: no more. */
  async next(): Promise<Untold | undefined> {
    for (;;) {
      const event = this.#events[this.#at];
      if (event !== undefined) {
        this.#at += 1;
        return event;
      }
      this.#events = [];
      this.#at = 0;
      if (this.#over && this.#error !== undefined) throw this.#error;
      if (this.#over) return undefined;
      const owed = this.#owed;
      this.#owed = 0;
      if (owed > 0) this.#process.credit(owed);
      await new Promise<void>((wake) => (this.#wake = wake));
    }
  }

  /** The first end counts. */
  end(error: CorralError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#process.signal(constants.signals.SIGKILL, true);
    this.#wake?.();
  }

  #output(stream: "stdout" | "stderr", chunk: Uint8Array): boolean {
    if (this.#over || stream === "stderr") return true;
    try {
      this.#reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), chunk.byteLength);
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      this.end(
        new CorralError("guest_protocol", `the watch of ${this.#asked.shown} broke its protocol (${what}) and was ended; begin another`),
      );
    }
    this.#wake?.();
    if (this.#events.length - this.#at < MAX_WAITING_EVENTS) return true;
    this.#owed += chunk.byteLength;
    return false;
  }

  #told({ type, id, buffer, start, end }: Frame): void {
    if (this.#over) return;
    const answer = new AnswerReader(Buffer.from(buffer.subarray(start, end)));
    const root = { ...toldPath(this.#asked.bytes), isDir: true };
    if (id !== 0) throw new Lie(`a frame for ${id}`);
    if (type === TOLD.event) this.#events.push(this.#event(answer));
    else if (type === TOLD.ready && answer.u32() > 0) this.#events.push({ kind: "ready", ...root });
    else if (type === TOLD.overflow) this.#events.push({ kind: "overflow", ...root });
    else if (type === TOLD.gone) {
      this.#events.push({ kind: "gone", ...root });
      this.end(undefined);
    } else if (type === TOLD.failed) this.end(this.#failed(answer.u32()));
    else throw new Lie(`a frame of type ${type}`);
    answer.end();
  }

  #event(answer: AnswerReader): Untold {
    const [number, isDir] = [answer.u8(), answer.u8()];
    answer.bytes(2);
    const cookie = answer.u32();
    const kind = KINDS[number];
    const path = answer.rest();
    if (kind === undefined || kind === "" || isDir > 1 || !isRelative(path)) throw new Lie("an event that is none");
    return { kind, ...toldPath(joined(this.#asked.bytes, path)), isDir: isDir === 1, ...(cookie === 0 ? {} : { cookie }) };
  }

  #failed(errno: number): CorralError {
    if (errno !== constants.errno.ENOSPC) return fileError(errno, "watched", this.#asked.shown);
    return new CorralError(
      "limit_reached",
      `${this.#asked.shown} cannot be watched: it has more directories than one user may watch; watch less of it`,
    );
  }
}

/** Names one behind the other, none of which leads up. */
function isRelative(path: Buffer): boolean {
  if (path.length > 2 * MAX_PATH_BYTES || path.includes(0)) return false;
  return path
    .toString("latin1")
    .split("/")
    .every((name) => name !== "" && name !== "." && name !== "..");
}

function exitError(exit: GuestExit, { shown }: AskedPath): CorralError {
  if (exit.startErrno !== 0)
    return new CorralError("limit_reached", `${shown} cannot be watched: the sandbox has no process or memory left`);
  return new CorralError("worker_lost", `the watch of ${shown} was ended by something in the sandbox; begin another`);
}
