// One command in a sandbox, as the server sees it: what frames of it are legal now, credit both ways, the backstop timer.
// Everything that comes in was written beside hostile code. Invariant: a frame that a correct guest could not send in this state
// ends the connection; at most STREAM_WINDOW_BYTES are accepted beyond the credit given, STDIN_WINDOW_BYTES sent beyond ours.

import { CorralError } from "../../api/errors.ts";
import { STDIN_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "../../api/limits.ts";
import type { GuestExec, GuestExit, GuestProcess } from "../runtime.ts";
import { type Frame, type FrameWriter, GUEST } from "./frames.ts";
import { Credit } from "./tool.ts";

const FLAG_PTY = 1;
const FLAG_STDIN = 2;
const FLAG_ROOT = 16;
const HEAD_BYTES = 32;
const EXIT_BYTES = 40;
const PIECE_BYTES = 64 * 1024;
/** Credit is given back in pieces of this size, so that small writes of a program cost no frame each. */
const CREDIT_BYTES = STREAM_WINDOW_BYTES / 4;
/** Beyond the program's own time-out and the whole kill ladder: then the guest itself does not answer. */
const BACKSTOP_MS = 5_000;

/** What an exec needs of its connection. */
export interface ExecOwner {
  readonly writer: FrameWriter;
  /** The exec has ended; its id may not come again. */
  forget(id: number): void;
  /** The guest broke its word; the whole sandbox goes. */
  broke(what: string): void;
}

export class Exec implements GuestProcess {
  readonly id: number;
  readonly #request: GuestExec;
  readonly #owner: ExecOwner;
  readonly #stdin: Credit | undefined;
  #stdinUnacknowledged = 0;
  #stdinDone: Promise<void> = Promise.resolve();
  /** Bytes that came and for which no credit was given yet. */
  #unread = 0;
  #owed = 0;
  #started = false;
  #ended = false;
  #backstop: NodeJS.Timeout | undefined;

  constructor(id: number, request: GuestExec, owner: ExecOwner) {
    this.id = id;
    this.#request = request;
    this.#owner = owner;
    this.#stdin = request.stdin || request.pty !== null ? new Credit(STDIN_WINDOW_BYTES) : undefined;
    sendExec(owner.writer, id, request);
    if (request.timeoutMs > 0) {
      const limit = request.timeoutMs + 2 * request.graceMs + BACKSTOP_MS;
      this.#backstop = setTimeout(
        () => owner.broke(`the guest did not end a command ${limit} ms after it began`),
        Math.min(limit, MAX_TIMER_MS),
      );
    }
  }

  started(pid: number): void {
    if (this.#started) return this.#owner.broke("STARTED twice");
    this.#started = true;
    this.#request.onStarted(pid);
  }

  output(stream: "stdout" | "stderr", chunk: Uint8Array): void {
    if (!this.#started) return this.#owner.broke("output before STARTED");
    this.#unread += chunk.length;
    if (this.#unread > STREAM_WINDOW_BYTES) return this.#owner.broke("output beyond the credit");
    if (this.#request.onOutput(stream, chunk)) this.credit(chunk.length);
  }

  exit({ buffer, start, end }: Frame): void {
    if (end - start !== EXIT_BYTES) return this.#owner.broke("an EXIT of a wrong length");
    const exit = parseExit(buffer, start);
    if (!this.#started && exit.startErrno === 0) return this.#owner.broke("EXIT before STARTED");
    this.#end();
    this.#request.onExit(exit);
  }

  stdinCredit(bytes: number): void {
    if (this.#stdin === undefined || bytes > this.#stdinUnacknowledged) return this.#owner.broke("credit for stdin that was not sent");
    this.#stdinUnacknowledged -= bytes;
    this.#stdin.add(bytes);
  }

  lost(reason: string): void {
    if (this.#ended) return;
    this.#end();
    this.#request.onLost(reason);
  }

  /** Resolves when the chunk is on its way; at once when the program has ended (it reads no more). */
  write(chunk: Uint8Array): Promise<void> {
    if (this.#stdin === undefined)
      throw new CorralError("request_invalid", "the command was started without stdin; ask for it at the start");
    this.#stdinDone = this.#stdinDone.then(() => this.#write(chunk));
    return this.#stdinDone;
  }

  closeStdin(): void {
    this.#stdinDone = this.#stdinDone.then(() => {
      if (!this.#ended && this.#stdin !== undefined) this.#owner.writer.send(GUEST.stdinEof, this.id);
    });
  }

  credit(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed < CREDIT_BYTES || this.#ended) return;
    this.#unread -= this.#owed;
    this.#owner.writer.sendU32(GUEST.credit, this.id, this.#owed);
    this.#owed = 0;
  }

  signal(number: number, tree = false): void {
    if (this.#ended) return;
    const { writer } = this.#owner;
    const at = writer.begin(GUEST.signal, this.id, 8);
    writer.page.writeInt32LE(number, at);
    writer.page.writeUInt32LE(tree ? 1 : 0, at + 4);
  }

  stop(): void {
    if (!this.#ended) this.#owner.writer.send(GUEST.stop, this.id);
  }

  resize(rows: number, cols: number): void {
    if (this.#ended) return;
    const { writer } = this.#owner;
    const at = writer.begin(GUEST.resize, this.id, 4);
    writer.page.writeUInt16LE(rows, at);
    writer.page.writeUInt16LE(cols, at + 2);
  }

  async #write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length && this.#stdin !== undefined; at += PIECE_BYTES) {
      const piece = chunk.subarray(at, at + PIECE_BYTES);
      if (!(await this.#stdin.take(piece.length))) return;
      this.#stdinUnacknowledged += piece.length;
      this.#owner.writer.send(GUEST.stdin, this.id, piece);
    }
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#backstop);
    this.#stdin?.end();
    this.#owner.forget(this.id);
  }
}

/** Longest delay that setTimeout takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

function sendExec(writer: FrameWriter, id: number, request: GuestExec): void {
  const env: string[] = [];
  for (const key in request.env) env.push(`${key}=${request.env[key]}`);
  const { argv, cwd } = request;
  if (argv.length === 0 || argv.length > 0xffff || env.length > 0xffff)
    throw new CorralError("request_invalid", "a command needs 1 to 65,535 arguments");
  const text = `${cwd}\0${argv.join("\0")}\0${env.length === 0 ? "" : `${env.join("\0")}\0`}`;
  if (countNuls(text) !== 1 + argv.length + env.length)
    throw new CorralError("request_invalid", "an argument, a variable or the directory holds a NUL byte; remove it");
  const textBytes = Buffer.byteLength(text);
  const at = writer.begin(GUEST.exec, id, HEAD_BYTES + textBytes);
  const { page } = writer;
  const { pty } = request;
  let flags = (pty === null ? 0 : FLAG_PTY) | (request.stdin ? FLAG_STDIN : 0);
  if (request.root === true) flags |= FLAG_ROOT;
  page.writeUInt32LE(flags, at);
  page.writeUInt32LE(request.timeoutMs, at + 4);
  page.writeUInt32LE(request.idleTimeoutMs, at + 8);
  page.writeUInt32LE(request.graceMs, at + 12);
  page.writeUInt32LE(request.outputBytes % 0x1_0000_0000, at + 16);
  page.writeUInt32LE(Math.floor(request.outputBytes / 0x1_0000_0000), at + 20);
  page.writeUInt16LE(pty?.rows ?? 0, at + 24);
  page.writeUInt16LE(pty?.cols ?? 0, at + 26);
  page.writeUInt16LE(argv.length, at + 28);
  page.writeUInt16LE(env.length, at + 30);
  page.write(text, at + HEAD_BYTES, "utf8");
}

function countNuls(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\0"); at >= 0; at = text.indexOf("\0", at + 1)) count += 1;
  return count;
}

function parseExit(buffer: Buffer, at: number): GuestExit {
  const flags = buffer.readUInt32LE(at + 12);
  return {
    code: buffer.readInt32LE(at),
    signal: buffer.readInt32LE(at + 4),
    startErrno: buffer.readUInt32LE(at + 8),
    timedOut: (flags & 1) !== 0,
    idle: (flags & 2) !== 0,
    truncated: (flags & 4) !== 0,
    memoryHit: (flags & 8) !== 0,
    pidsHit: (flags & 16) !== 0,
    cwdFailed: (flags & 32) !== 0,
    cpuUs: Number(buffer.readBigUInt64LE(at + 16)),
    maxRssBytes: Number(buffer.readBigUInt64LE(at + 24)),
  };
}
