// Content of files on its way out and in, in pieces. Invariant: a file that is read through a handle is one file from its first byte to its
// last; a handle that was opened is closed, however its reader or its writer ends.

import type { FileContent } from "../../api/files.ts";
import { CorralError } from "../../api/errors.ts";
import { FILE_CHUNK_BYTES } from "../../api/limits.ts";
import type { Asker, Telling } from "./asker.ts";
import { type AnswerReader, FLAG, Lie, OP, type WireEntry, type WireRequest } from "./wire.ts";
import type { FileWorker } from "./worker.ts";

/** Where a name stands: absolute, or relative and beneath a base. */
export interface At {
  readonly base?: Uint8Array;
  readonly path: Uint8Array;
}

export interface Range {
  readonly offset: number;
  /** `Infinity`: to the end. */
  readonly length: number;
}

export interface Opened {
  readonly entry: WireEntry;
  readonly chunks: AsyncIterator<Uint8Array> & AsyncIterable<Uint8Array>;
  /** Of the whole file; `null`: it has none that is known before its end. */
  readonly size: number | null;
}

export async function openFile(
  asker: Asker,
  at: At,
  { offset, length }: Range,
  telling: Telling & { readonly follow?: boolean },
): Promise<Opened> {
  const release = await asker.slot();
  try {
    const count = Math.min(length, FILE_CHUNK_BYTES);
    const flags = (length > count ? FLAG.keep : 0) | (telling.follow === false ? FLAG.nofollow : 0);
    const get = async (): Promise<Opened> => {
      const worker = asker.worker();
      const { entry, handle, bytes } = await asker.on(
        worker,
        { op: OP.get, ...at, offset, count, flags },
        (answer) => readGot(answer, count),
        telling,
      );
      if (handle !== 0 && bytes.length !== count) throw new CorralError("guest_protocol", "a file that goes on behind its end");
      const reading = new Reading({ asker, worker, handle, telling, release }, bytes, {
        offset: offset + bytes.length,
        length: length - bytes.length,
      });
      return { entry, chunks: reading, size: sizeOf(entry, handle === 0 && offset === 0 ? bytes.length : null) };
    };
    return await get().catch((error: unknown) => {
      if (!(error instanceof CorralError) || error.code !== "worker_lost") throw error;
      return get();
    });
  } catch (error) {
    release();
    throw error;
  }
}

function readGot(answer: AnswerReader, most: number): { readonly entry: WireEntry; readonly handle: number; readonly bytes: Buffer } {
  const entry = answer.entry(false);
  const handle = answer.u32();
  const bytes = answer.rest();
  if (bytes.length > most) throw new Lie("more bytes than were asked for");
  return { entry, handle, bytes };
}

interface Handle {
  readonly asker: Asker;
  readonly worker: FileWorker;
  /** 0: none is open. */
  readonly handle: number;
  readonly telling: Telling;
  /** Gives the place among the open files back. */
  readonly release: () => void;
}

/** Not a generator: one that nobody began could not be closed. */
class Reading implements AsyncIterator<Uint8Array>, AsyncIterable<Uint8Array> {
  readonly #handle: Handle;
  readonly #done: () => void;
  #first: Buffer | undefined;
  #left: Range;
  #over: boolean;

  constructor(handle: Handle, first: Buffer, left: Range) {
    this.#handle = handle;
    this.#first = first;
    this.#left = left;
    this.#over = handle.handle === 0;
    this.#done = this.#over ? () => undefined : handle.worker.hold();
    if (this.#over) handle.release();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined && first.length > 0) return { done: false, value: first };
    if (this.#over) return { done: true, value: undefined };
    const { asker, worker, handle, telling } = this.#handle;
    const { offset, length } = this.#left;
    const count = Math.min(length, FILE_CHUNK_BYTES);
    try {
      const bytes =
        count === 0
          ? undefined
          : await asker.on(worker, { op: OP.read, handle, offset, count }, (answer) => readSome(answer, count), telling);
      if (bytes === undefined || bytes.length === 0) return await this.return();
      this.#left = { offset: offset + bytes.length, length: length - bytes.length };
      return { done: false, value: bytes };
    } catch (error) {
      await this.return();
      throw error;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    if (!this.#over) {
      this.#over = true;
      close(this.#handle);
      this.#done();
    }
    this.#first = undefined;
    return { done: true, value: undefined };
  }
}

function readSome(answer: AnswerReader, most: number): Buffer {
  const bytes = answer.rest();
  if (bytes.length > most) throw new Lie("more bytes than were asked for");
  return bytes;
}

/** Not awaited: who has what it wanted waits for no more, and a worker that is gone has closed it. */
function close({ asker, worker, handle, telling: { verb, shown }, release }: Handle): void {
  const closing = asker.on(worker, { op: OP.close, handle }, () => undefined, { verb, shown });
  closing.then(release, release);
}

export interface Writing {
  readonly at: At;
  /** Of PUT and CREATE, with what they mean. */
  readonly flags: number;
  readonly mode?: number;
  readonly offset?: number;
}

export interface Written {
  readonly entry: WireEntry;
  readonly bytes: number;
}

export async function writeFile(
  asker: Asker,
  { at, flags, mode = 0, offset = 0 }: Writing,
  data: AsyncIterable<Uint8Array> | Uint8Array,
  telling: Telling,
): Promise<Written> {
  return await asker.writing(telling.shown, async (full) => {
    const head: WireRequest = { op: OP.put, ...at, flags, mode, offset };
    if (data instanceof Uint8Array && data.length <= FILE_CHUNK_BYTES)
      return { entry: await asker.change({ ...head, data }, readEntry, telling), bytes: data.length };
    const pieces = piecesOf(data);
    try {
      const first = await pieces.next();
      const second = first.done === true || first.value.length < FILE_CHUNK_BYTES ? undefined : await pieces.next();
      const bytes = first.done === true ? EMPTY : first.value;
      if (second === undefined || second.done === true)
        return { entry: await asker.change({ ...head, data: bytes }, readEntry, telling), bytes: bytes.length };
      const draft = await Draft.open(asker, head, telling);
      return await draft.take([bytes, second.value], pieces, full);
    } finally {
      await pieces.return(undefined);
    }
  });
}

/** A file that is written in pieces and takes its name at the end. */
class Draft {
  readonly #handle: Handle;
  readonly #done: () => void;
  #bytes = 0;

  private constructor(handle: Handle, done: () => void) {
    this.#handle = handle;
    this.#done = done;
  }

  static async open(asker: Asker, head: WireRequest, telling: Telling): Promise<Draft> {
    const release = await asker.slot();
    try {
      const worker = asker.worker();
      const handle = await asker.on(worker, { ...head, op: OP.create }, (answer) => answer.u32(), telling);
      return new Draft({ asker, worker, handle, telling, release }, worker.hold());
    } catch (error) {
      release();
      throw error;
    }
  }

  /** `full` throws when there is no room for more. */
  async take(begun: readonly Uint8Array[], rest: AsyncIterable<Uint8Array>, full: () => void): Promise<Written> {
    const { asker, worker, handle, telling, release } = this.#handle;
    try {
      for (const piece of begun) await this.#write(piece, full);
      for await (const piece of rest) await this.#write(piece, full);
      full();
      const entry = await asker.on(worker, { op: OP.commit, handle }, readEntry, telling);
      release();
      return { entry, bytes: this.#bytes };
    } catch (error) {
      close(this.#handle);
      throw error;
    } finally {
      this.#done();
    }
  }

  async #write(data: Uint8Array, full: () => void): Promise<void> {
    const { asker, worker, handle, telling } = this.#handle;
    full();
    await asker.on(worker, { op: OP.write, handle, data }, () => undefined, telling);
    this.#bytes += data.length;
  }
}

export function readEntry(answer: AnswerReader): WireEntry {
  return answer.entry(false);
}

const EMPTY = new Uint8Array(0);

/** Pieces of FILE_CHUNK_BYTES, the last one shorter: many small chunks are not as many requests. */
async function* piecesOf(data: AsyncIterable<Uint8Array> | Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (data instanceof Uint8Array) {
    for (let at = 0; at < data.length; at += FILE_CHUNK_BYTES) yield data.subarray(at, at + FILE_CHUNK_BYTES);
    return;
  }
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of data) {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + FILE_CHUNK_BYTES - size);
      held.push(part);
      size += part.length;
      at += part.length;
      if (size < FILE_CHUNK_BYTES) continue;
      yield held.length === 1 ? part : Buffer.concat(held);
      held = [];
      size = 0;
    }
  }
  if (size > 0) yield Buffer.concat(held);
}

/** Files of /proc say that they are empty. */
function sizeOf({ size }: WireEntry, seen: number | null): number | null {
  return size > 0 ? size : seen;
}

export function contentOf({ chunks, size }: Opened): FileContent {
  return { size, [Symbol.asyncIterator]: () => chunks };
}
