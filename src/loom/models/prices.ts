// What a call may cost and did cost, in whole nano-dollars. Pure. Invariant: what is held before a call is at least what its price list says
// of the counted prompt and the longest reply; a model without a price costs `undefined`, never 0.

import type { Usage } from "./model.ts";

/** Nano-dollars for one token. */
export interface Price {
  readonly input: number;
  readonly cached: number;
  readonly output: number;
}

/** Prompts are counted by estimate; so much more is held. */
const MARGIN = 1.5;

export function holdFor(
  price: Price,
  { promptTokens, maxOutputTokens }: { readonly promptTokens: number; readonly maxOutputTokens: number },
): number {
  return Math.ceil(promptTokens * MARGIN * price.input + maxOutputTokens * price.output);
}

/** `undefined`: the provider did not say how much it was. */
export function costOf(price: Price, { inputTokens, cachedTokens, outputTokens }: Usage): number | undefined {
  if (inputTokens === null || outputTokens === null) return undefined;
  const cached = Math.min(cachedTokens ?? 0, inputTokens);
  return Math.round((inputTokens - cached) * price.input + cached * price.cached + outputTokens * price.output);
}
