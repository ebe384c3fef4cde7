// One command in a sandbox, as the server sees it: what frames of it are legal now, credit both ways, the backstop timer.
// Everything that comes in was written beside hostile code. Invariant: a frame that a correct guest could not send in this state
// ends the connection; at most STREAM_WINDOW_BYTES are accepted beyond the credit given.

import { CorralError } from "../../api/errors.ts";
import { STDIN_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "../../api/limits.ts";
import type { GuestAttach, GuestExec, GuestExit, GuestProcess, GuestSinks } from "../runtime.ts";
import { type Frame, type FrameWriter, GUEST } from "./frames.ts";
import { Inlet } from "./inlet.ts";

const FLAG_PTY = 1;
const FLAG_STDIN = 2;
const FLAG_TIED = 8;
const FLAG_ROOT = 16;
const FLAG_WORKER = 128;
const FLAG_KEEP = 32;
const FLAG_CONTROL = 64;
const FLAG_FORKER = 256;
const FLAG_FORKED = 512;
const HEAD_BYTES = 32;
const EXIT_BYTES = 40;
const ATTACHED_BYTES = 28;
const ENOENT = 2;
/** Credit is given back in pieces of this size, so that small writes of a program cost no frame each. */
const CREDIT_BYTES = STREAM_WINDOW_BYTES / 4;
/** Beyond the program's own time-out and the whole kill ladder: then the guest itself does not answer. */
const BACKSTOP_MS = 5_000;
const MAX_NOTE_BYTES = 4_096;
const KEY = /^[a-z0-9-]{1,64}$/;

/** What an exec needs of its connection. */
export interface ExecOwner {
  readonly writer: FrameWriter;
  /** The exec has ended; its id may not come again. */
  ended(id: number): void;
  /** The guest broke its word; the whole sandbox goes. */
  broke(what: string): void;
}

/** What every command shares, however it came to this connection. */
abstract class Command implements GuestProcess {
  readonly id: number;
  readonly #sinks: GuestSinks;
  protected readonly owner: ExecOwner;
  protected stdin: Inlet | undefined;
  protected controlIn: Inlet | undefined;
  /** Bytes that came and for which no credit was given yet. */
  #unread = 0;
  #owed = 0;
  protected opened = false;
  #ended = false;
  protected backstop: NodeJS.Timeout | undefined;

  constructor(id: number, sinks: GuestSinks, owner: ExecOwner) {
    this.id = id;
    this.#sinks = sinks;
    this.owner = owner;
  }

  /** A frame of this command that is not output. */
  abstract frame(frame: Frame): void;

  output(stream: "stdout" | "stderr" | "control", chunk: Uint8Array): void {
    if (!this.opened) return this.owner.broke("output before its command was told to run");
    this.#unread += chunk.length;
    if (this.#unread > STREAM_WINDOW_BYTES) return this.owner.broke("output beyond the credit");
    if (stream !== "control") {
      if (this.#sinks.onOutput(stream, chunk)) this.credit(chunk.length);
      return;
    }
    if (this.controlIn === undefined) return this.owner.broke("control bytes of a command that has no control channel");
    this.#sinks.onControl?.(chunk);
    this.credit(chunk.length);
  }

  lost(reason: string): void {
    if (this.#ended) return;
    this.end();
    this.#sinks.onLost(reason);
  }

  /** Resolves when the chunk is on its way; at once when the program has ended (it reads no more). */
  write(chunk: Uint8Array): Promise<void> {
    if (this.stdin === undefined)
      throw new CorralError("request_invalid", "the command was started without stdin; ask for it at the start");
    return this.stdin.write(chunk);
  }

  closeStdin(): void {
    this.stdin?.afterwards(() => this.#send(GUEST.stdinEof));
  }

  restartStdin(): void {
    if (this.#ended) return;
    this.stdin?.restart();
    this.#send(GUEST.stdinAgain);
  }

  control(chunk: Uint8Array): Promise<void> {
    return this.controlIn?.write(chunk) ?? Promise.resolve();
  }

  credit(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed < CREDIT_BYTES || this.#ended) return;
    this.#unread -= this.#owed;
    this.owner.writer.sendU32(GUEST.credit, this.id, this.#owed);
    this.#owed = 0;
  }

  signal(number: number, tree = false): void {
    if (this.#ended) return;
    const { writer } = this.owner;
    const at = writer.begin(GUEST.signal, this.id, 8);
    writer.page.writeInt32LE(number, at);
    writer.page.writeUInt32LE(tree ? 1 : 0, at + 4);
  }

  stop(): void {
    this.#send(GUEST.stop);
  }

  resize(rows: number, cols: number): void {
    if (this.#ended) return;
    const { writer } = this.owner;
    const at = writer.begin(GUEST.resize, this.id, 4);
    writer.page.writeUInt16LE(rows, at);
    writer.page.writeUInt16LE(cols, at + 2);
  }

  /** Frames that come to a command however it was opened. */
  protected common({ type, buffer, start, end }: Frame): void {
    const length = end - start;
    switch (type) {
      case GUEST.stdinCredit:
      case GUEST.controlCredit: {
        const inlet = type === GUEST.stdinCredit ? this.stdin : this.controlIn;
        if (length !== 4 || inlet?.taken(buffer.readUInt32LE(start)) !== true) this.owner.broke("credit for bytes that were not sent");
        return;
      }
      case GUEST.exit:
        if (length !== EXIT_BYTES) return this.owner.broke("an EXIT of a wrong length");
        return this.#exit(parseExit(buffer, start));
      case GUEST.detached:
        if (length !== 0) return this.owner.broke("a DETACHED of a wrong length");
        return this.lost("another server attached to the command");
      default:
        return this.owner.broke(`a frame of type ${type} for a command`);
    }
  }

  protected end(): void {
    this.#ended = true;
    clearTimeout(this.backstop);
    this.stdin?.end();
    this.controlIn?.end();
    this.owner.ended(this.id);
  }

  #exit(exit: GuestExit): void {
    if (!this.opened && exit.startErrno === 0) return this.owner.broke("EXIT before its command was told to run");
    this.end();
    this.#sinks.onExit(exit);
  }

  #send(type: number): void {
    if (!this.#ended) this.owner.writer.send(type, this.id);
  }
}

/** A command that this connection starts. */
export class Exec extends Command {
  readonly #request: GuestExec;

  constructor(id: number, request: GuestExec, owner: ExecOwner) {
    super(id, request, owner);
    this.#request = request;
    const { writer } = owner;
    sendExec(writer, id, request);
    if (request.stdin || request.pty !== null) this.stdin = new Inlet(writer, GUEST.stdin, id, STDIN_WINDOW_BYTES);
    if (request.control === true) this.controlIn = new Inlet(writer, GUEST.controlIn, id, STDIN_WINDOW_BYTES);
    if (request.timeoutMs > 0) {
      const limit = request.timeoutMs + 2 * request.graceMs + BACKSTOP_MS;
      this.backstop = setTimeout(
        () => owner.broke(`the guest did not end a command ${limit} ms after it began`),
        Math.min(limit, MAX_TIMER_MS),
      );
    }
  }

  frame(frame: Frame): void {
    if (frame.type !== GUEST.started) return this.common(frame);
    if (frame.end - frame.start !== 4) return this.owner.broke("STARTED of a wrong length");
    if (this.opened) return this.owner.broke("STARTED twice");
    this.opened = true;
    this.#request.onStarted(frame.buffer.readUInt32LE(frame.start));
  }
}

/** A kept command that an earlier connection started. */
export class Attached extends Command {
  readonly #sinks: GuestAttach;

  constructor(id: number, { key, offset }: { readonly key: string; readonly offset: number }, sinks: GuestAttach, owner: ExecOwner) {
    super(id, sinks, owner);
    this.#sinks = sinks;
    const { writer } = owner;
    const at = writer.begin(GUEST.attach, id, 8 + key.length + 1);
    writer.page.writeBigUInt64LE(BigInt(offset), at);
    writer.page.write(`${key}\0`, at + 8, "latin1");
  }

  frame(frame: Frame): void {
    if (frame.type !== GUEST.attached) return this.opened ? this.common(frame) : this.owner.broke("a frame before ATTACHED");
    const { buffer, start, end } = frame;
    if (end - start !== ATTACHED_BYTES) return this.owner.broke("ATTACHED of a wrong length");
    if (this.opened) return this.owner.broke("ATTACHED twice");
    const errno = buffer.readUInt32LE(start);
    if (errno === ENOENT) {
      this.end();
      return this.#sinks.onUnknown();
    }
    const offset = Number(buffer.readBigUInt64LE(start + 8));
    const stdinRoom = buffer.readUInt32LE(start + 16);
    const controlRoom = buffer.readUInt32LE(start + 20);
    if (errno !== 0 || !Number.isSafeInteger(offset) || Math.max(stdinRoom, controlRoom) > STDIN_WINDOW_BYTES)
      return this.owner.broke("an ATTACHED that cannot be");
    const flags = buffer.readUInt32LE(start + 24);
    const { writer } = this.owner;
    if ((flags & (FLAG_PTY | FLAG_STDIN)) !== 0) this.stdin = new Inlet(writer, GUEST.stdin, this.id, stdinRoom);
    if ((flags & FLAG_CONTROL) !== 0) this.controlIn = new Inlet(writer, GUEST.controlIn, this.id, controlRoom);
    this.opened = true;
    this.#sinks.onAttached({ pid: buffer.readUInt32LE(start + 4), offset, pty: (flags & FLAG_PTY) !== 0 });
  }
}

/** Throws `request_invalid` for what no guest takes as a key. */
export function checkKey(key: string): string {
  if (!KEY.test(key)) throw new CorralError("request_invalid", "the key of a kept command is 1 to 64 of a-z, 0-9 and -");
  return key;
}

/** Longest delay that setTimeout takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

function sendExec(writer: FrameWriter, id: number, request: GuestExec): void {
  const env: string[] = [];
  const { forkOf, key, note = "" } = request;
  const { argv, cwd } = forkOf === undefined ? request : { argv: [String(forkOf.id)], cwd: "/" };
  if (forkOf === undefined) for (const name in request.env) env.push(`${name}=${request.env[name]}`);
  if (argv.length === 0 || argv.length > 0xffff || env.length > 0xffff)
    throw new CorralError("request_invalid", "a command needs 1 to 65,535 arguments");
  const strings = [cwd, ...argv, ...env, ...(key === undefined ? [] : [checkKey(key), note])];
  const text = `${strings.join("\0")}\0`;
  if (Buffer.byteLength(note) > MAX_NOTE_BYTES)
    throw new CorralError("request_invalid", `the note of a kept command is longer than ${MAX_NOTE_BYTES} bytes`);
  if (countNuls(text) !== strings.length)
    throw new CorralError("request_invalid", "an argument, a variable or the directory holds a NUL byte; remove it");
  const textBytes = Buffer.byteLength(text);
  const at = writer.begin(GUEST.exec, id, HEAD_BYTES + textBytes);
  const { page } = writer;
  const { pty } = request;
  let flags = (pty === null ? 0 : FLAG_PTY) | (request.stdin ? FLAG_STDIN : 0);
  if (request.root === true) flags |= FLAG_ROOT;
  if (request.tied === true) flags |= FLAG_TIED;
  if (request.worker === true) flags |= FLAG_WORKER;
  if (key !== undefined) flags |= FLAG_KEEP;
  if (request.control === true) flags |= FLAG_CONTROL;
  if (request.forks === true) flags |= FLAG_FORKER;
  if (forkOf !== undefined) flags |= FLAG_FORKED;
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
