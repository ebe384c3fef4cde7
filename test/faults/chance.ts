// Choices of a fault run, from a seed, so that a run that found something can be had again with the same choices. Not for secrets.

export interface Chance {
  /** 0 to `below` - 1. */
  below(below: number): number;
  /** True `part` times of `of`. */
  of(part: number, of: number): boolean;
  pick<T>(list: readonly T[]): T | undefined;
  /** Another one, whose choices do not depend on how often this one is asked. */
  branch(name: string): Chance;
}

/** Mulberry32. */
export function chanceOf(seed: number): Chance {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (most: number): number => Math.floor(next() * most);
  return {
    below,
    of: (part, of) => below(of) < part,
    pick: (list) => list[below(list.length)],
    branch: (name) => chanceOf(Buffer.from(name).reduce((hash, byte) => Math.imul(hash, 31) + byte, seed)),
  };
}
