// Events of a server: pages, and a stream that goes on by itself where a connection broke. Invariant: each event is given once, in order;
// what asking again cannot mend (a key that holds no more) ends the stream with its error.

import type { EventCalls, EventResource } from "../api/events.ts";
import { CorralError, ERROR_KINDS, errorCode } from "../api/errors.ts";
import { EVENT_BEAT_MS } from "../api/limits.ts";
import type { WireError } from "../api/server.ts";
import { type Http, streamError } from "./http.ts";
import { query } from "./query.ts";
import { bytes, messages } from "./streams.ts";

const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 5_000;
/** A connection that is silent for so long is dead, whatever its socket says. */
const QUIET_MS = 3 * EVENT_BEAT_MS;

interface Place {
  /** Of the last event that was given. */
  after: string | undefined;
  /** Connections in a row that gave nothing. */
  failures: number;
}

export function remoteEvents(http: Http): EventCalls {
  return {
    list: ({ signal, kinds, ...words } = {}) => http.get(`/events${query({ kind: kinds, ...words })}`, { signal }),
    follow: async function* ({ signal, after, kinds, sandboxId } = {}) {
      const place: Place = { after, failures: 0 };
      const call = signal === undefined ? {} : { signal };
      for (;;) {
        try {
          yield* connection(http, `/events${query({ kind: kinds, sandboxId })}`, place, call);
        } catch (error) {
          if (!isPassing(error) && (errorCode(error) !== "canceled" || signal?.aborted === true)) throw error;
        }
        place.failures += 1;
        await pause(Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(place.failures, 10)) * (0.5 + Math.random() / 2), signal);
      }
    },
  };
}

/** One connection until it ends. */
async function* connection(http: Http, path: string, place: Place, call: { readonly signal?: AbortSignal }): AsyncGenerator<EventResource> {
  const last = place.after === undefined ? {} : { "last-event-id": place.after };
  const headers = { accept: "text/event-stream", ...last };
  const quiet = new AbortController();
  const signal = AbortSignal.any([quiet.signal, ...(call.signal === undefined ? [] : [call.signal])]);
  let timer = setTimeout(() => quiet.abort(), QUIET_MS);
  try {
    for await (const { id, event, data } of messages(bytes(() => http.ask(path, { headers, signal })))) {
      clearTimeout(timer);
      if (event === "error") throw streamError(JSON.parse(data) as WireError);
      if (id !== undefined) place.after = id;
      place.failures = 0;
      if (data !== "") yield JSON.parse(data) as EventResource;
      timer = setTimeout(() => quiet.abort(), QUIET_MS);
    }
  } finally {
    clearTimeout(timer);
  }
}

function isPassing(error: unknown): boolean {
  const code = errorCode(error);
  return code === "stream_cut" || (code !== undefined && ERROR_KINDS[code].retry === "later" && code !== "limit_reached");
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal?.addEventListener("abort", wake);
    if (signal?.aborted === true) wake();
  });
  if (signal?.aborted === true) throw new CorralError("canceled", "the call was canceled");
}
