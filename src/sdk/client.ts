// The client of a Corral server: `connect({ url, key })`, then sandboxes and commands. Runs in browsers and every Node.js: `fetch` alone.
// Invariant: what the server refuses is a CorralError with the server's code; a stream that was cut is an error, never a short result.

import { CorralError, ERROR_KINDS, type ErrorCode } from "../api/errors.ts";
import type { ExecResult } from "../api/sandbox.ts";
import {
  type CreateSandboxBody,
  EXEC_FRAME,
  EXEC_FRAME_HEADER_BYTES,
  type ExecBody,
  type ExecEnd,
  type IssueTokenBody,
  type ListOf,
  type SandboxResource,
  type TokenResource,
  type WireError,
} from "../api/server.ts";

export interface ConnectOptions {
  /** Of the server: `http://127.0.0.1:4700`. */
  readonly url: string;
  readonly key: string;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ListOptions extends CallOptions {
  readonly limit?: number;
  readonly cursor?: string;
  readonly state?: SandboxResource["state"];
  /** All of these pairs. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface RemoteExecRequest extends Omit<ExecBody, "stdin">, CallOptions {
  readonly stdin?: Uint8Array;
  /** Receive output as it comes; awaited, so a slow sink slows the program. Without sinks the result collects. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
}

export interface RemoteSandbox extends AsyncDisposable {
  readonly id: string;
  info(options?: CallOptions): Promise<SandboxResource>;
  exec(request: RemoteExecRequest): Promise<ExecResult>;
  /** Moves its end to `timeoutMs` from now. */
  renew(timeoutMs: number | null, options?: CallOptions): Promise<SandboxResource>;
  /** Idempotent. */
  destroy(options?: CallOptions): Promise<void>;
}

export interface Client {
  /** `idempotencyKey`: a repeated create with the same key answers with the first one's sandbox. */
  create(body: CreateSandboxBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<RemoteSandbox>;
  /** A handle on a sandbox by its id; asks nothing. */
  sandbox(id: string): RemoteSandbox;
  list(options?: ListOptions): Promise<ListOf<SandboxResource>>;
  issueToken(body: IssueTokenBody, options?: CallOptions): Promise<TokenResource & { readonly secret: string }>;
  listTokens(options?: CallOptions & { readonly ownerId?: string }): Promise<ListOf<TokenResource>>;
  revokeToken(id: string, options?: CallOptions & { readonly ownerId?: string }): Promise<boolean>;
}

interface Call extends CallOptions {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

type Ask = (path: string, call?: Call) => Promise<Response>;

export function connect({ url, key }: ConnectOptions): Client {
  const base = url.replace(/\/+$/, "");
  const ask: Ask = async (path, { method = "GET", body, headers = {}, signal } = {}) => {
    const json = body === undefined ? {} : { "content-type": "application/json" };
    const init = { method, headers: { authorization: `Bearer ${key}`, ...json, ...headers } };
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await reach(`${base}/v1${path}`, { ...init, ...content, ...(signal === undefined ? {} : { signal }) });
    if (!response.ok) throw await refusal(response);
    return response;
  };
  const get = async <T>(path: string, call?: Call): Promise<T> => (await (await ask(path, call)).json()) as T;
  return {
    create: async (body, { idempotencyKey, ...options } = {}) => {
      const headers = { "idempotency-key": idempotencyKey ?? crypto.randomUUID() };
      const { id } = await get<SandboxResource>("/sandboxes", { method: "POST", body, headers, ...options });
      return remoteSandbox(ask, id);
    },
    sandbox: (id) => remoteSandbox(ask, id),
    list: ({ signal, metadata = {}, ...rest } = {}) => {
      const query = new URLSearchParams(Object.entries(rest).map(([name, value]): [string, string] => [name, String(value)]));
      for (const [name, value] of Object.entries(metadata)) query.append("metadata", `${name}=${value}`);
      return get(`/sandboxes?${query.toString()}`, signal === undefined ? {} : { signal });
    },
    issueToken: (body, options) => get("/tokens", { method: "POST", body, ...options }),
    listTokens: ({ ownerId, ...options } = {}) => get(`/tokens${ownerQuery(ownerId)}`, options),
    revokeToken: async (id, { ownerId, ...options } = {}) => {
      const path = `/tokens/${encodeURIComponent(id)}${ownerQuery(ownerId)}`;
      return (await get<{ revoked: boolean }>(path, { method: "DELETE", ...options })).revoked;
    },
  };
}

function ownerQuery(ownerId: string | undefined): string {
  return ownerId === undefined ? "" : `?ownerId=${encodeURIComponent(ownerId)}`;
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
  const told: ErrorCode = known ? code : "internal";
  return new CorralError(told, message ?? `the server answered ${response.status} without saying why`, {
    details: { ...details, status: response.status, requestId, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
  });
}

function remoteSandbox(ask: Ask, id: string): RemoteSandbox {
  const path = `/sandboxes/${encodeURIComponent(id)}`;
  const destroy = async (options: CallOptions = {}): Promise<void> => {
    try {
      await ask(path, { method: "DELETE", ...options });
    } catch (error) {
      if ((error as CorralError).code !== "sandbox_not_found") throw error;
    }
  };
  return {
    id,
    info: async (options) => (await (await ask(path, options)).json()) as SandboxResource,
    exec: (request) => exec(ask, path, request),
    renew: async (timeoutMs, options) =>
      (await (await ask(`${path}/renew`, { method: "POST", body: { timeoutMs }, ...options })).json()) as SandboxResource,
    destroy,
    [Symbol.asyncDispose]: () => destroy(),
  };
}

async function exec(ask: Ask, path: string, request: RemoteExecRequest): Promise<ExecResult> {
  const { stdin, onStdout, onStderr, signal, ...rest } = request;
  const body: ExecBody = { ...rest, ...(stdin === undefined ? {} : { stdin: base64(stdin) }) };
  const response = await ask(`${path}/exec`, { method: "POST", body, ...(signal === undefined ? {} : { signal }) });
  const kept: { stdout: Uint8Array[]; stderr: Uint8Array[] } = { stdout: [], stderr: [] };
  for await (const { kind, payload } of frames(response)) {
    if (kind === EXEC_FRAME.stdout) await (onStdout ?? ((chunk) => void kept.stdout.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.stderr) await (onStderr ?? ((chunk) => void kept.stderr.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.end) return { ...(parse(payload) as ExecEnd), stdout: joined(kept.stdout), stderr: joined(kept.stderr) };
    else if (kind === EXEC_FRAME.error) throw streamError(parse(payload) as WireError);
  }
  throw new CorralError("stream_cut", "the connection ended before the command did; it may still run in the sandbox");
}

function streamError({ code, message, requestId }: WireError): CorralError {
  return new CorralError(Object.hasOwn(ERROR_KINDS, code) ? code : "internal", message, { details: { requestId } });
}

/** Frames may be cut anywhere on their way. */
async function* frames(response: Response): AsyncGenerator<{ readonly kind: number; readonly payload: Uint8Array }> {
  let held = new Uint8Array(0);
  for await (const chunk of chunks(response)) {
    held = held.length === 0 ? chunk : joined([held, chunk]);
    for (;;) {
      if (held.length < EXEC_FRAME_HEADER_BYTES) break;
      const end = EXEC_FRAME_HEADER_BYTES + new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held.length < end) break;
      yield { kind: held[0] ?? 0, payload: held.slice(EXEC_FRAME_HEADER_BYTES, end) };
      held = held.subarray(end);
    }
  }
}

/** By a reader: not every browser iterates a stream. Leaving the loop early lets the connection go. */
async function* chunks(response: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of parts) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

function parse(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(payload));
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
