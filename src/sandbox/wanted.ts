// Whether a call is still wanted: what an aborted signal means in this process, as a closed connection does over HTTP.

import { CorralError } from "../api/errors.ts";

export async function* whileWanted<T>(source: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  demandWanted(signal);
  for await (const item of source) {
    yield item;
    demandWanted(signal);
  }
}

/** `words`: what did not come of it, for a person. */
export function demandWanted(signal: AbortSignal | undefined, words = "the call was canceled"): void {
  if (signal?.aborted === true) throw new CorralError("canceled", words);
}
