// A connection to a port inside a sandbox: the guest's worker `dial`, its stdin and stdout as a pair of streams.
// Not HTTP. Invariant: bytes that the reader did not take are at most a window's, whoever sends; both ends know why a connection ended.

import { constants } from "node:os";
import { CorralError } from "../api/errors.ts";
import { PORT_BUFFER_BYTES } from "../api/limits.ts";
import type { PortConnection } from "../api/sandbox.ts";
import type { Container, GuestExit, GuestProcess } from "../runtime/runtime.ts";
import { startWorker } from "./worker-exec.ts";

export interface DialContext {
  readonly container: Container;
  /** Called when it is under way; what it returns is called when it ended. `hit` ends it for a limit of the delta. */
  readonly guard: (hit: () => void) => () => void;
}

const MAX_PORT = 65_535;
const { EAGAIN, ECONNREFUSED } = constants.errno;

/** Resolves when the worker runs; whether somebody listens is told by the connection. */
export function dialPort(context: DialContext, port: number): Promise<PortConnection> {
  if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
    return Promise.reject(new CorralError("request_invalid", `port: expected a number from 1 to ${MAX_PORT}`));
  const opened = Promise.withResolvers<PortConnection>();
  const dialed = new Dialed(context, port, opened);
  dialed.begin();
  return opened.promise;
}

class Dialed implements PortConnection {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  readonly #context: DialContext;
  readonly #port: number;
  readonly #opened: PromiseWithResolvers<PortConnection>;
  #reader: ReadableStreamDefaultController<Uint8Array> | undefined;
  #guest: GuestProcess | undefined;
  #release: () => void = () => undefined;
  /** Bytes that wait for the reader, and for which no credit was given. */
  #held = 0;
  #over = false;

  constructor(context: DialContext, port: number, opened: PromiseWithResolvers<PortConnection>) {
    this.#context = context;
    this.#port = port;
    this.#opened = opened;
    const room = { highWaterMark: PORT_BUFFER_BYTES, size: (chunk: Uint8Array | undefined): number => chunk?.length ?? 0 };
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#reader = controller;
        },
        pull: () => this.#credit(),
        cancel: () => this.#leave(),
      },
      room,
    );
    this.writable = new WritableStream<Uint8Array>(
      { write: (chunk) => this.#guest?.write(chunk), close: () => this.#guest?.closeStdin(), abort: () => this.#leave() },
      room,
    );
  }

  begin(): void {
    this.#guest = startWorker(this.#context.container, ["dial", String(this.#port)], {
      onStarted: () => this.#opened.resolve(this),
      onOutput: (stream, chunk) => this.#output(stream, chunk),
      onExit: (exit) => this.#exit(exit),
      onLost: (reason) => this.#end(new CorralError("sandbox_lost", `the sandbox ended while port ${this.#port} was in use: ${reason}`)),
    });
    if (!this.#over) this.#release = this.#context.guard(() => this.#leave());
  }

  #output(stream: "stdout" | "stderr", chunk: Uint8Array): boolean {
    if (stream === "stderr" || this.#over || this.#reader === undefined) return true; // a worker says nothing there
    this.#reader.enqueue(Uint8Array.from(chunk));
    if ((this.#reader.desiredSize ?? 0) > 0) return true;
    this.#held += chunk.length;
    return false;
  }

  #credit(): void {
    const bytes = this.#held;
    this.#held = 0;
    if (bytes > 0 && !this.#over) this.#guest?.credit(bytes);
  }

  /** Whoever used it is gone: there is nobody to hear the other side. */
  #leave(): void {
    this.#reader = undefined; // what still comes is read and dropped
    this.#credit();
    // SAFETY: the id is this worker's own exec in its own container; the guest signals nothing outside of it.
    if (!this.#over) this.#guest?.signal(constants.signals.SIGKILL, true);
  }

  #exit({ code, startErrno }: GuestExit): void {
    if (startErrno === EAGAIN)
      return this.#end(
        new CorralError("limit_reached", "the sandbox has no process left for a connection; its limit of processes is reached"),
      );
    if (startErrno !== 0) return this.#end(new CorralError("guest_protocol", `the guest could not dial (error ${startErrno})`));
    if (code === 0) return this.#end(undefined);
    if (code === ECONNREFUSED)
      return this.#end(
        new CorralError("port_closed", `nothing listens on port ${this.#port} of the sandbox; start the program, then ask again`),
      );
    this.#end(new CorralError("stream_cut", `the connection to port ${this.#port} of the sandbox broke`));
  }

  #end(error: CorralError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#release();
    if (error === undefined) {
      this.#opened.resolve(this);
      this.#reader?.close();
    } else {
      this.#opened.reject(error);
      this.#reader?.error(error);
    }
  }
}
