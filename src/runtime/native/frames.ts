// The frames of guest/PROTOCOL.md: their numbers, a reader and a writer. Knows nothing of what a frame means.
// Invariant: memory is bounded whatever the other side sends (one frame of MAX_FRAME_BYTES), and a chunk that was parsed
// is not kept: a consumer that needs bytes after its call copies them.

import { CorralError } from "../../api/errors.ts";
import { MAX_FRAME_BYTES } from "../../api/limits.ts";

export const HEADER_BYTES = 12;

/** Requests to the spawner and its answers. */
export const SPAWNER = {
  configure: 1,
  create: 2,
  destroy: 3,
  tool: 4,
  toolIn: 5,
  toolEof: 6,
  toolKill: 7,
  credit: 8,
  stats: 9,
  adopt: 10,
  end: 11,
  freeze: 12,
  mount: 13,
  ok: 65,
  error: 66,
  toolOut: 67,
  toolEnd: 68,
  toolCredit: 69,
  died: 70,
} as const;

/** Requests to a guest and its answers. */
export const GUEST = {
  exec: 1,
  stdin: 2,
  stdinEof: 3,
  signal: 4,
  stop: 5,
  resize: 6,
  credit: 7,
  ping: 8,
  killAll: 9,
  controlIn: 10,
  stdinAgain: 11,
  list: 12,
  attach: 13,
  forget: 14,
  hold: 20,
  release: 21,
  ready: 64,
  ok: 65,
  started: 66,
  stdout: 67,
  stderr: 68,
  exit: 69,
  stdinCredit: 70,
  pong: 71,
  control: 72,
  controlCredit: 73,
  kept: 74,
  attached: 75,
  detached: 76,
} as const;

/** A frame inside a buffer of somebody else: payload from `start` to `end`. Object and buffer are used again when the call returns. */
export interface Frame {
  type: number;
  id: number;
  buffer: Buffer;
  start: number;
  end: number;
}

export type OnFrame = (frame: Frame) => void;

/** Cuts a byte stream into frames. `push` throws `guest_protocol` on a malformed header; the connection is then to be closed. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  /** A frame that came only in part. */
  #partial: Buffer = EMPTY;
  #have = 0;
  /** One for all: frames are many and short-lived. */
  readonly #frame: Frame = { type: 0, id: 0, buffer: EMPTY, start: 0, end: 0 };

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer, length: number): void {
    let at = this.#have > 0 ? this.#fill(chunk, length) : 0;
    while (length - at >= HEADER_BYTES) {
      const size = frameSize(chunk, at);
      if (length - at < size) break;
      const start = at + HEADER_BYTES;
      at += size;
      this.#deliver(chunk, start, at);
    }
    if (at < length) this.#keep(chunk, at, length);
  }

  /** Completes the partial frame from the front of `chunk`; returns how many bytes it took. */
  #fill(chunk: Buffer, length: number): number {
    let at = 0;
    if (this.#have < HEADER_BYTES) {
      at = Math.min(HEADER_BYTES - this.#have, length);
      chunk.copy(this.#partial, this.#have, 0, at);
      this.#have += at;
      if (this.#have < HEADER_BYTES) return at;
    }
    const size = frameSize(this.#partial, 0);
    this.#reserve(size);
    const taken = Math.min(size - this.#have, length - at);
    chunk.copy(this.#partial, this.#have, at, at + taken);
    this.#have += taken;
    if (this.#have < size) return at + taken;
    const whole = this.#partial;
    this.#have = 0;
    // A buffer that held a large frame is let go: an idle connection keeps no megabyte.
    if (whole.length > KEPT_BYTES) this.#partial = EMPTY;
    this.#deliver(whole, HEADER_BYTES, size);
    return at + taken;
  }

  #deliver(buffer: Buffer, start: number, end: number): void {
    const frame = this.#frame;
    frame.type = buffer[start - 4] as number;
    frame.id = buffer.readUInt32LE(start - 8);
    frame.buffer = buffer;
    frame.start = start;
    frame.end = end;
    this.#onFrame(frame);
  }

  #keep(chunk: Buffer, at: number, length: number): void {
    this.#reserve(length - at >= HEADER_BYTES ? frameSize(chunk, at) : HEADER_BYTES);
    chunk.copy(this.#partial, 0, at, length);
    this.#have = length - at;
  }

  #reserve(size: number): void {
    if (this.#partial.length >= size) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(size, SMALLEST_BYTES));
    this.#partial.copy(larger, 0, 0, this.#have);
    this.#partial = larger;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);
const KEPT_BYTES = 64 * 1024;
const SMALLEST_BYTES = 512;

/** Size of the whole frame whose header stands at `at`. */
function frameSize(buffer: Buffer, at: number): number {
  const length = buffer.readUInt32LE(at);
  if (length > MAX_FRAME_BYTES) throw malformed(`a frame of ${length} bytes`);
  if (buffer[at + 9] !== 0 || buffer[at + 10] !== 0 || buffer[at + 11] !== 0) throw malformed("a frame header with bytes 9 to 11 set");
  return HEADER_BYTES + length;
}

function malformed(what: string): CorralError {
  return new CorralError("guest_protocol", `the guest program sent ${what}; the connection is closed`);
}

/** What a writer writes to; `net.Socket` is one. */
export interface Sink {
  write(bytes: Uint8Array): unknown;
}

/**
 * Collects the frames of one turn of the event loop and hands them over in one write.
 * The bytes of a page are written once and never again, so a sink may hold on to what it was given.
 */
export class FrameWriter {
  readonly #sink: Sink;
  #page: Buffer = EMPTY;
  #from = 0;
  #to = 0;
  #scheduled = false;
  #closed = false;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** After this, frames are dropped: the other side is gone. */
  close(): void {
    this.#closed = true;
    this.#page = EMPTY;
    this.#from = this.#to = 0;
  }

  send(type: number, id: number, payload?: Uint8Array): void {
    const length = payload?.length ?? 0;
    if (payload === undefined || length <= COPIED_BYTES) {
      const at = this.begin(type, id, length);
      if (payload !== undefined) this.#page.set(payload, at);
      return;
    }
    this.begin(type, id, length, 0);
    this.flush();
    if (!this.#closed) this.#sink.write(payload);
  }

  sendU32(type: number, id: number, value: number): void {
    const at = this.begin(type, id, 4);
    this.#page.writeUInt32LE(value, at);
  }

  /** Writes a header and reserves `reserved` bytes behind it in `page`; returns where they begin. */
  begin(type: number, id: number, length: number, reserved: number = length): number {
    if (length > MAX_FRAME_BYTES)
      throw new CorralError("request_invalid", `a request of ${length} bytes is larger than a frame may be (${MAX_FRAME_BYTES})`);
    const need = HEADER_BYTES + reserved;
    if (this.#page.length - this.#to < need) {
      this.flush();
      this.#page = Buffer.allocUnsafeSlow(Math.max(PAGE_BYTES, need));
      this.#from = this.#to = 0;
    }
    const page = this.#page;
    const at = this.#to;
    page.writeUInt32LE(length, at);
    page.writeUInt32LE(id, at + 4);
    page.writeUInt32LE(type, at + 8);
    this.#to = at + need;
    if (!this.#scheduled) {
      this.#scheduled = true;
      // nextTick, not a microtask: it runs after all promise reactions of this turn, so that their frames travel together.
      process.nextTick(flushWriter, this);
    }
    return at + HEADER_BYTES;
  }

  /** The page that `begin` reserved in; valid until the next `begin`. */
  get page(): Buffer {
    return this.#page;
  }

  flush(): void {
    if (this.#to === this.#from) return;
    const bytes = this.#page.subarray(this.#from, this.#to);
    this.#from = this.#to;
    if (!this.#closed) this.#sink.write(bytes);
  }

  /** Called by the scheduled flush alone. */
  tick(): void {
    this.#scheduled = false;
    this.flush();
  }
}

function flushWriter(writer: FrameWriter): void {
  writer.tick();
}

const PAGE_BYTES = 16 * 1024;
/** Payloads up to here are copied behind their header; larger ones are handed over as they are. */
const COPIED_BYTES = 4 * 1024;

/** A verb and its strings as bytes: UTF-8, each NUL-terminated. A NUL inside would forge a record, so it is refused. */
export function records(list: readonly (readonly string[])[]): Buffer {
  let text = "";
  for (const record of list) {
    for (const part of record) {
      if (part.includes("\0")) throw new CorralError("request_invalid", `${record[0] ?? "a record"}: a value holds a NUL byte; remove it`);
      text += part;
      text += "\0";
    }
  }
  return Buffer.from(text, "utf8");
}

/** Strings of a payload, NUL-terminated each. Throws `guest_protocol` when the last one is cut off. */
export function strings({ buffer, start, end }: Pick<Frame, "buffer" | "start" | "end">): string[] {
  if (start === end) return [];
  if (buffer[end - 1] !== 0) throw malformed("a string without its end");
  return buffer.toString("utf8", start, end - 1).split("\0");
}
