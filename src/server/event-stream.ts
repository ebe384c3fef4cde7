// Events as an HTTP answer that does not end: server-sent events with ids, a comment where nothing happens. Invariant: what is refused is
// an answer like any other; a reader that takes nothing for too long is told so and let go.

import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { CorralError, errorCode } from "../api/errors.ts";
import { EVENT_STALL_MS } from "../api/limits.ts";
import type { WireError } from "../api/server.ts";

export interface StreamedEvent {
  readonly id: string | number;
  readonly kind: string;
}

/** A string is an id alone, `undefined` a sign of life. What it gives ends at the signal, also while it waits. */
export type Follow = (signal: AbortSignal) => AsyncGenerator<StreamedEvent | string | undefined>;

export const EVENT_STREAM = "text/event-stream";

/** How long a reader that was told to go may take to hear it, ms. */
const LAST_WORD_MS = 2_000;

export async function streamEvents(follow: Follow, request: FastifyRequest, reply: FastifyReply, stallMs = EVENT_STALL_MS): Promise<void> {
  const { raw } = reply;
  const gone = new AbortController();
  raw.once("close", () => gone.abort());
  const events = follow(gone.signal);
  const first = await events.next(); // until it has begun, an error is an answer like any other
  reply.hijack();
  raw.writeHead(200, {
    "content-type": EVENT_STREAM,
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
    "x-request-id": request.id,
  });
  try {
    for (let next = first; next.done !== true; next = await events.next()) {
      if (await write(raw, textOf(next.value), stallMs)) continue;
      const message = `nothing was read for ${stallMs} ms; go on behind the last event that was read`;
      throw new CorralError("overloaded", message);
    }
  } catch (error) {
    const code = errorCode(error) ?? "internal";
    const message = error instanceof CorralError ? error.message : "the server failed in a way nobody foresaw";
    const told: WireError = { code, message, requestId: request.id };
    raw.write(`event: error\ndata: ${JSON.stringify(told)}\n\n`);
  } finally {
    await events.return(undefined);
    raw.end();
    setTimeout(() => raw.destroy(), LAST_WORD_MS).unref();
  }
}

function textOf(event: StreamedEvent | string | undefined): string {
  if (event === undefined) return ": nothing\n\n";
  if (typeof event === "string") return `id: ${event}\n\n`;
  return `id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** False: the reader takes nothing. */
async function write(raw: ServerResponse, text: string, stallMs: number): Promise<boolean> {
  if (raw.destroyed || raw.write(text)) return true;
  const settled = Promise.withResolvers<boolean>();
  const moved = (): void => settled.resolve(true);
  const timer = setTimeout(() => settled.resolve(false), stallMs);
  raw.once("drain", moved).once("close", moved);
  const took = await settled.promise;
  clearTimeout(timer);
  raw.off("drain", moved).off("close", moved);
  return took;
}
