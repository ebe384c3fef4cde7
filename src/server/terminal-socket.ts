// One terminal over a WebSocket: a process's output to the client, the client's input to the process, until either is gone.
// Not who may. Invariant: one message of output is under way to the client, so a slow one slows the program; what a program does not read,
// and what was not answered yet, stops the client; one that answers no ping is let go; the process goes on without it.

import type { RawData, WebSocket } from "ws";
import { z } from "zod";
import { CorralError, errorCode } from "../api/errors.ts";
import { TERMINAL_INPUT_BYTES, TERMINAL_INPUT_MESSAGES, TERMINAL_PING_MS } from "../api/limits.ts";
import type { TerminalHears, TerminalSays } from "../api/terminals.ts";
import type { OpenedTerminal } from "../service/terminals.ts";

const hears = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("resize"), rows: z.int().min(1).max(65_535), cols: z.int().min(1).max(65_535) }),
  z.strictObject({ type: z.literal("signal"), signal: z.string().max(32), tree: z.boolean().optional() }),
  z.strictObject({ type: z.literal("end") }),
]);

const NORMAL = 1000;
export const GOING_AWAY = 1001;
const POLICY = 1008;
const INTERNAL = 1011;

/** Resolves when the connection is over. Never throws. */
export async function serveTerminal(socket: WebSocket, opened: OpenedTerminal, requestId: string): Promise<void> {
  await new TerminalSocket(socket, opened, requestId).serve();
}

class TerminalSocket {
  readonly #socket: WebSocket;
  readonly #opened: OpenedTerminal;
  readonly #requestId: string;
  readonly #gone = new AbortController();
  #writing: Promise<void> = Promise.resolve();
  /** Messages that are not done with, and the bytes of input among them that the process has not taken. */
  #waiting = { messages: 0, bytes: 0 };
  #answered = true;

  constructor(socket: WebSocket, opened: OpenedTerminal, requestId: string) {
    this.#socket = socket;
    this.#opened = opened;
    this.#requestId = requestId;
  }

  async serve(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#socket.once("close", () => {
        this.#gone.abort();
        resolve();
      });
    });
    this.#socket.on("error", () => undefined); // its close follows
    this.#socket.on("pong", () => (this.#answered = true));
    this.#socket.on("message", (data, isBinary) => this.#hear(data, isBinary));
    const pings = setInterval(() => this.#ping(), TERMINAL_PING_MS);
    try {
      await this.#tell();
      this.#socket.close(NORMAL);
    } catch (error) {
      await this.#fail(error);
    }
    await closed;
    clearInterval(pings);
  }

  async #tell(): Promise<void> {
    const { calls, process, from } = this.#opened;
    await this.#say({ type: "start", process, offset: from });
    for await (const piece of calls.output(process.id, { from, hold: true, signal: this.#gone.signal })) {
      if (piece.kind === "end") await this.#say({ type: "exit", process: piece.process });
      else if (piece.kind === "gap") await this.#say({ type: "gap", offset: piece.offset });
      else if (piece.kind === "stdout") await this.#send(piece.bytes);
      else await this.#say({ type: "stderr", data: Buffer.from(piece.bytes).toString("base64") });
    }
  }

  #say(message: TerminalSays): Promise<void> {
    return this.#send(JSON.stringify(message));
  }

  /** Resolves when the message has left this process, or nobody is there to take it. */
  #send(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.send(data, { binary: typeof data !== "string" }, () => resolve()));
  }

  #hear(data: RawData, isBinary: boolean): void {
    this.#answered = true;
    if (this.#socket.readyState !== this.#socket.OPEN) return; // it was told goodbye
    if (isBinary) return this.#write(data as Buffer, false);
    const message = heard(data as Buffer);
    if (message === undefined) return this.#refuse();
    if (message.type === "end") return this.#write(Buffer.alloc(0), true);
    const { calls, process } = this.#opened;
    const { signal } = this.#gone;
    // Not behind input that waits: it may be what makes the program read again.
    void this.#count(0, () =>
      message.type === "resize"
        ? calls.resize(process.id, message, { signal })
        : calls.signal(process.id, message.signal, { signal, ...(message.tree === undefined ? {} : { tree: message.tree }) }),
    );
  }

  #refuse(): void {
    this.#socket.close(POLICY, "request_invalid");
    this.#gone.abort();
  }

  #write(bytes: Buffer, end: boolean): void {
    const { calls, process } = this.#opened;
    const before = this.#writing;
    this.#writing = this.#count(bytes.length, async () => {
      await before;
      await calls.write(process.id, bytes, { end, signal: this.#gone.signal });
    });
  }

  /** Does what a message asks for; more than a bounded number that wait are not heard. Never throws. */
  async #count(bytes: number, act: () => Promise<void>): Promise<void> {
    this.#wait(1, bytes);
    try {
      await act();
    } catch (error) {
      await this.#complain(error);
    } finally {
      this.#wait(-1, -bytes);
    }
  }

  #wait(messages: number, bytes: number): void {
    this.#waiting.messages += messages;
    this.#waiting.bytes += bytes;
    const isFull = this.#waiting.messages >= TERMINAL_INPUT_MESSAGES || this.#waiting.bytes > TERMINAL_INPUT_BYTES;
    if (isFull) this.#socket.pause();
    else if (this.#socket.isPaused) this.#socket.resume();
  }

  /** What one message asked for was refused; the connection goes on. */
  async #complain(error: unknown): Promise<void> {
    const code = errorCode(error) ?? "internal";
    if (this.#gone.signal.aborted || code === "process_ended") return; // its exit is told already, or is about to be
    const message = error instanceof CorralError ? error.message : "the server failed in a way nobody foresaw";
    await this.#say({ type: "error", error: { code, message, requestId: this.#requestId } });
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#gone.signal.aborted) return;
    await this.#complain(error);
    this.#socket.close(INTERNAL, errorCode(error) ?? "internal");
  }

  #ping(): void {
    // Of one that is not heard no answer can be expected.
    if (!this.#answered && !this.#socket.isPaused) return this.#socket.terminate();
    this.#answered = false;
    this.#socket.ping();
  }
}

/** `undefined`: it is none of ours. */
function heard(data: Buffer): TerminalHears | undefined {
  try {
    return hears.parse(JSON.parse(data.toString("utf8"))) as TerminalHears;
  } catch {
    return undefined;
  }
}
