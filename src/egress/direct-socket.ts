// A TCP connection whose bytes lie in one buffer that is used again and again. Handed on as any stream they are copied out of it; a relay that
// is done with each piece before the next takes them where they lie. Invariant: nobody but such a relay sees that buffer.

import { Socket } from "node:net";

const BUFFER_BYTES = 128 * 1024;

/** What came: to be used up before the next is asked for. False: no more until `resume`. */
export type Taker = (bytes: Buffer) => boolean;

export class DirectSocket extends Socket {
  readonly #inlet: { take?: Taker };

  /** Half-open allowed. */
  constructor() {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    const inlet: { take?: Taker; push?: Taker } = {};
    const callback = (count: number): boolean => {
      const bytes = buffer.subarray(0, count);
      return inlet.take?.(bytes) ?? inlet.push?.(Buffer.from(bytes)) ?? false;
    };
    super({ allowHalfOpen: true, onread: { buffer, callback } });
    inlet.push = (bytes) => this.push(bytes);
    this.#inlet = inlet;
    this.setNoDelay(true);
  }

  /** From now on instead of `data` events; what had come before is given first. `end` is told as ever. */
  direct(take: Taker): void {
    this.#inlet.take = take;
    for (let held = this.read() as Buffer | null; held !== null; held = this.read() as Buffer | null) take(held);
  }
}
