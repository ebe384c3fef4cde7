// How the SDK reaches a server: one function that sends a call with the key and turns refusals into errors. `fetch` alone, so it runs in
// browsers. Invariant: what the server refuses is a CorralError with the server's code, and no call outlives its signal.

import { CorralError, ERROR_KINDS, type ErrorBody, type ErrorCode } from "../api/errors.ts";
import type { WireError } from "../api/server.ts";

export interface ConnectOptions {
  /** Of the server: `http://127.0.0.1:4700`. */
  readonly url: string;
  readonly key: string;
}

export interface Call {
  readonly signal?: AbortSignal | undefined;
  readonly method?: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, instead. */
  readonly raw?: Uint8Array | ReadableStream<Uint8Array>;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Http {
  /** An answer of the server that is no refusal; its body is still to be read. */
  ask(path: string, call?: Call): Promise<Response>;
  /** The JSON of an answer. */
  get<T>(path: string, call?: Call): Promise<T>;
}

export function httpOf({ url, key }: ConnectOptions): Http {
  const base = url.replace(/\/+$/, "");
  const ask: Http["ask"] = async (path, { method = "GET", body, raw, headers = {}, signal } = {}) => {
    const type = raw !== undefined ? "application/octet-stream" : body === undefined ? undefined : "application/json";
    const typed = type === undefined ? {} : { "content-type": type };
    const init = { method, headers: { authorization: `Bearer ${key}`, ...typed, ...headers } };
    const sent = raw ?? JSON.stringify(body);
    // Half duplex is the only kind there is, and has to be said of a stream.
    const content: RequestInit = type === undefined ? {} : { body: sent as NonNullable<RequestInit["body"]>, duplex: "half" };
    const response = await reach(`${base}/v1${path}`, { ...init, ...content, ...(signal === undefined ? {} : { signal }) });
    if (!response.ok) throw await refusal(response);
    return response;
  };
  return { ask, get: async <T>(path: string, call?: Call): Promise<T> => (await (await ask(path, call)).json()) as T };
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    if (init.signal?.aborted === true) throw new CorralError("canceled", "the call was canceled", { cause });
    throw new CorralError("server_unreachable", `no server answers at ${new URL(url).origin}; is corral serve running there?`, { cause });
  }
}

async function refusal(response: Response): Promise<CorralError> {
  const body = (await response.json().catch(() => ({}))) as { readonly error?: Partial<WireError> };
  const { code, message, requestId, retryAfterMs, details } = body.error ?? {};
  const known = code !== undefined && Object.hasOwn(ERROR_KINDS, code);
  // Without a code of the table it is no Corral that answers but a proxy before one.
  const told: ErrorCode = known ? code : [502, 503, 504].includes(response.status) ? "server_unreachable" : "internal";
  return new CorralError(told, message ?? `the server answered ${response.status} without saying why`, {
    details: { ...details, status: response.status, requestId, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
  });
}

export function streamError({ code, message, requestId }: WireError): CorralError {
  return asError({ code, message, details: { requestId } });
}

export function asError({ code, message, details }: ErrorBody): CorralError {
  return new CorralError(Object.hasOwn(ERROR_KINDS, code) ? code : "internal", message, details === undefined ? {} : { details });
}
