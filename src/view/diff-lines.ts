// Which lines of two texts differ: Myers' greedy search in its linear-space form, on line numbers instead of lines.
// Invariant: the answer is always a correct edit (the unmarked lines of both sides are equal, in order); when the work allowed runs
// out it is merely a coarser one. Memory grows with the number of lines, never with their product.

/** Inner steps of the search, all boxes together: well under a second. */
const MAX_STEPS = 20_000_000;
const INVALID = -1_073_741_824;

export interface LineMarks {
  /** 1 for each line of the old text that is gone. */
  readonly gone: Uint8Array;
  /** 1 for each line of the new text that was not there. */
  readonly made: Uint8Array;
}

/** Equal numbers are equal lines. */
export function diffLines(before: Int32Array, after: Int32Array, maxSteps = MAX_STEPS): LineMarks {
  const search = new Search(before, after, maxSteps);
  search.run();
  return { gone: search.gone, made: search.made };
}

type Box = readonly [fromA: number, toA: number, fromB: number, toB: number];

class Search {
  readonly gone: Uint8Array;
  readonly made: Uint8Array;
  readonly #a: Int32Array;
  readonly #b: Int32Array;
  /** Furthest x on each diagonal, from the start and from the end. */
  readonly #forward: Int32Array;
  readonly #backward: Int32Array;
  readonly #middle: number;
  #steps: number;

  constructor(a: Int32Array, b: Int32Array, maxSteps: number) {
    this.#a = a;
    this.#b = b;
    this.gone = new Uint8Array(a.length);
    this.made = new Uint8Array(b.length);
    this.#middle = a.length + b.length + 2;
    this.#forward = new Int32Array(2 * this.#middle + 2);
    this.#backward = new Int32Array(2 * this.#middle + 2);
    this.#steps = maxSteps;
  }

  run(): void {
    const boxes: Box[] = [[0, this.#a.length, 0, this.#b.length]];
    for (let box = boxes.pop(); box !== undefined; box = boxes.pop()) {
      const [fromA, toA, fromB, toB] = this.#trim(box);
      if (fromA === toA || fromB === toB) {
        this.#markAll([fromA, toA, fromB, toB]);
        continue;
      }
      const split = this.#split(fromA, toA, fromB, toB);
      if (split === undefined) this.#markAll([fromA, toA, fromB, toB]);
      else boxes.push([fromA, fromA + split[0], fromB, fromB + split[1]], [fromA + split[0], toA, fromB + split[1], toB]);
    }
  }

  #trim([fromA, toA, fromB, toB]: Box): Box {
    let [startA, endA, startB, endB] = [fromA, toA, fromB, toB];
    while (startA < endA && startB < endB && this.#a[startA] === this.#b[startB]) {
      startA++;
      startB++;
    }
    while (startA < endA && startB < endB && this.#a[endA - 1] === this.#b[endB - 1]) {
      endA--;
      endB--;
    }
    return [startA, endA, startB, endB];
  }

  #markAll([fromA, toA, fromB, toB]: Box): void {
    this.gone.fill(1, fromA, toA);
    this.made.fill(1, fromB, toB);
  }

  /**
   * A point in the middle of a shortest edit of the box, relative to its start; `undefined` when the work allowed is used up.
   * A box has no common first or last line, so the point is never one of its own corners.
   */
  #split(fromA: number, toA: number, fromB: number, toB: number): readonly [number, number] | undefined {
    const n = toA - fromA;
    const m = toB - fromB;
    const [forward, backward, middle] = [this.#forward, this.#backward, this.#middle];
    const delta = n - m;
    const odd = (delta & 1) !== 0;
    const most = Math.ceil((n + m) / 2);
    forward.fill(INVALID, middle - most - 1, middle + most + 2);
    backward.fill(INVALID, middle - most - 1, middle + most + 2);
    for (let d = 0; d <= most; d++) {
      for (let k = -d; k <= d; k += 2) {
        const x = this.#reach(forward, { d, k, n, m }, (i, j) => this.#a[fromA + i] === this.#b[fromB + j]);
        const other = delta - k;
        if (x >= 0 && odd && other > -d && other < d && (backward[middle + other] as number) + x >= n) return [x, x - k];
      }
      for (let k = -d; k <= d; k += 2) {
        const x = this.#reach(backward, { d, k, n, m }, (i, j) => this.#a[toA - 1 - i] === this.#b[toB - 1 - j]);
        const other = delta - k;
        if (x >= 0 && !odd && other >= -d && other <= d && (forward[middle + other] as number) + x >= n) return [n - x, m - (x - k)];
      }
      if (this.#steps < 0) return undefined;
    }
    return undefined;
  }

  /** Goes as far as `d` edits allow on diagonal `k`; the result is negative where the box has no such place. */
  #reach(
    ends: Int32Array,
    { d, k, n, m }: { d: number; k: number; n: number; m: number },
    equal: (i: number, j: number) => boolean,
  ): number {
    const at = this.#middle + k;
    const down = ends[at + 1] as number;
    const right = (ends[at - 1] as number) + 1;
    let x = d === 0 ? 0 : Math.max(down - k <= m ? down : INVALID, right <= n ? right : INVALID);
    if (x < 0 || x - k > m || x - k < 0) x = INVALID;
    this.#steps--;
    while (x >= 0 && x < n && x - k < m && equal(x, x - k)) {
      x++;
      this.#steps--;
    }
    ends[at] = x;
    return x;
  }
}
