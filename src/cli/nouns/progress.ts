// How far something is, on stderr: a bar that is drawn over on a terminal, and plain lines, few of them, elsewhere.

import { formatCount } from "../units.ts";

const BAR = 24;
/** Between two lines where there is no terminal, share of the whole. */
const STEP = 0.25;

export class Progress {
  readonly #what: string;
  #told = -1;
  #drawn = false;

  constructor(what: string) {
    this.#what = what;
  }

  show(done: number, all: number): void {
    const share = all === 0 ? 1 : done / all;
    if (process.stderr.isTTY) {
      const full = Math.round(share * BAR);
      process.stderr.write(`\r${this.#what} [${"#".repeat(full)}${" ".repeat(BAR - full)}] ${done}/${all}`);
      this.#drawn = true;
    } else if (share >= this.#told + STEP || (share === 1 && this.#told < 1)) {
      this.#told = share;
      process.stderr.write(`corral: ${this.#what}: ${done} of ${formatCount(all, "file")}\n`);
    }
  }

  end(): void {
    if (this.#drawn) process.stderr.write("\n");
  }
}
