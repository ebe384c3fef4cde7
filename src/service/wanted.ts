// Whether a call of the local client is still wanted: what an aborted signal means in this process, as a closed connection does over HTTP.

import { CorralError } from "../api/errors.ts";

export async function* whileWanted<T>(source: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  demandWanted(signal);
  for await (const item of source) {
    yield item;
    demandWanted(signal);
  }
}

export function demandWanted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new CorralError("canceled", "the call was canceled");
}
