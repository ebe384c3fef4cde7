// Bytes towards one descriptor of a command, in order and within the guest's window. Not a buffer: who writes waits.
// Invariant: at most STDIN_WINDOW_BYTES are sent beyond what the guest has taken, whatever it claims to have taken.

import { STDIN_WINDOW_BYTES } from "../../api/limits.ts";
import type { FrameWriter } from "./frames.ts";
import { Credit } from "./tool.ts";

const PIECE_BYTES = 64 * 1024;

export class Inlet {
  readonly #writer: FrameWriter;
  readonly #type: number;
  readonly #id: number;
  #credit: Credit;
  /** Sent, and not told as taken yet. */
  #underWay = 0;
  #done: Promise<void> = Promise.resolve();

  /** `room`: bytes that may be sent now, at most the window. */
  constructor(writer: FrameWriter, type: number, id: number, room: number) {
    this.#writer = writer;
    this.#type = type;
    this.#id = id;
    this.#credit = new Credit(room);
    this.#underWay = STDIN_WINDOW_BYTES - room;
  }

  /** Resolves when the chunk is on its way; at once when nobody reads any more. */
  write(chunk: Uint8Array): Promise<void> {
    const credit = this.#credit;
    this.#done = this.#done.then(() => this.#send(credit, chunk));
    return this.#done;
  }

  /** After all that was written. */
  afterwards(act: () => void): void {
    const credit = this.#credit;
    this.#done = this.#done.then(() => {
      if (!credit.ended) act();
    });
  }

  /** False: the guest claims to have taken what it was not sent. */
  taken(bytes: number): boolean {
    if (bytes > this.#underWay) return false;
    this.#underWay -= bytes;
    this.#credit.add(bytes);
    return true;
  }

  /** What waits to be sent is not sent; what is written from now on does not wait for it. */
  restart(): void {
    this.#credit.end();
    this.#credit = new Credit(STDIN_WINDOW_BYTES - this.#underWay);
    this.#done = Promise.resolve();
  }

  end(): void {
    this.#credit.end();
  }

  async #send(credit: Credit, chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      const piece = chunk.subarray(at, at + PIECE_BYTES);
      if (!(await credit.take(piece.length))) return;
      this.#underWay += piece.length;
      this.#writer.send(this.#type, this.#id, piece);
    }
  }
}
