// Splits an amount among people.

import { assertCents } from "./money.js";

/** Shares of `cents` for `people`, as equal as whole cents allow. */
export function splitEvenly(cents, people) {
  return splitByWeight(cents, new Array(people).fill(1));
}

/** Shares of `cents` by weight. */
export function splitByWeight(cents, weights) {
  assertCents(cents);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0) || weights.some((weight) => weight < 0)) throw new RangeError("weights must be positive");
  return weights.map((weight) => Math.floor((cents * weight) / total));
}
