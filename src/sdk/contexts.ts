// Contexts of a server's sandbox, and code that runs without one. Invariant: a call that was cut is an error, never a short answer.

import type { CodeAnswer, CodeEnd, CodeResult, ContextCalls, RunAlone, RunCode } from "../api/contexts.ts";
import { CorralError } from "../api/errors.ts";
import { EXEC_FRAME, type WireError } from "../api/server.ts";
import { type Http, streamError } from "./http.ts";
import { frames, joined, parse } from "./streams.ts";

export function remoteContexts(http: Http, sandbox: string): ContextCalls {
  const path = `${sandbox}/contexts`;
  const one = (id: string): string => `${path}/${encodeURIComponent(id)}`;
  return {
    create: (body = {}, { idempotencyKey = crypto.randomUUID(), ...call } = {}) =>
      http.get(path, { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...call }),
    list: (options) => http.get(path, options),
    get: (id, options) => http.get(one(id), options),
    run: (id, request) => run(http, `${one(id)}/run`, request),
    runAlone: (request) => run(http, `${sandbox}/code`, request),
    interrupt: async (id, call) => void (await http.ask(`${one(id)}/interrupt`, { method: "POST", ...call })),
    restart: (id, call) => http.get(`${one(id)}/restart`, { method: "POST", ...call }),
    delete: async (id, call) => void (await http.ask(one(id), { method: "DELETE", ...call })),
  };
}

async function run(http: Http, path: string, request: RunAlone): Promise<CodeAnswer> {
  const { onStarted, onStdout, onStderr, onResult, signal, ...body } = request;
  const response = await http.ask(path, { method: "POST", body, signal });
  const kept = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[], results: [] as CodeResult[] };
  for await (const { kind, payload } of frames(response)) {
    if (kind === EXEC_FRAME.start) onStarted?.(parse(payload) as Parameters<NonNullable<RunCode["onStarted"]>>[0]);
    else if (kind === EXEC_FRAME.stdout) await (onStdout ?? ((chunk) => void kept.stdout.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.stderr) await (onStderr ?? ((chunk) => void kept.stderr.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.result) await (onResult ?? ((result) => void kept.results.push(result)))(parse(payload) as CodeResult);
    else if (kind === EXEC_FRAME.end)
      return { ...(parse(payload) as CodeEnd), stdout: joined(kept.stdout), stderr: joined(kept.stderr), results: kept.results };
    else if (kind === EXEC_FRAME.error) throw streamError(parse(payload) as WireError);
  }
  throw new CorralError("stream_cut", "the connection ended before the code did; the server interrupts it");
}
