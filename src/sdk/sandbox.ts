// One sandbox of a server. Invariant: a stream that was cut is an error, never a short result.

import type { ClientExecRequest, SandboxHandle } from "../api/client.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import type { ExecResult } from "../api/sandbox.ts";
import { type BatchItem, EXEC_FRAME, type ExecBody, type ExecEnd, type WireError } from "../api/server.ts";
import { remoteContexts } from "./contexts.ts";
import { remoteDelta } from "./deltas.ts";
import { remoteFiles } from "./files.ts";
import { asError, type Http, streamError } from "./http.ts";
import { remoteNetwork } from "./networks.ts";
import { query } from "./query.ts";
import { remoteProcesses } from "./processes.ts";
import { remoteShells } from "./shells.ts";
import { base64, frames, joined, parse } from "./streams.ts";

export function remoteSandbox(http: Http, id: string): SandboxHandle {
  const path = `/sandboxes/${encodeURIComponent(id)}`;
  const destroy: SandboxHandle["destroy"] = async (options) => {
    try {
      await http.ask(path, { method: "DELETE", ...options });
    } catch (error) {
      if (errorCode(error) !== "sandbox_not_found") throw error;
    }
  };
  return {
    id,
    info: (options) => http.get(path, options),
    metrics: (options) => http.get(`${path}/metrics`, options),
    explain: (about, { signal, kind } = {}) => http.get(`${path}/explain${query({ path: about, kind })}`, { signal }),
    exec: (request) => exec(http, path, request),
    files: remoteFiles(http, path),
    delta: remoteDelta(http, path),
    processes: remoteProcesses(http, path),
    shells: remoteShells(http, path),
    contexts: remoteContexts(http, path),
    network: remoteNetwork(http, path),
    renew: (timeoutMs, options) => http.get(`${path}/renew`, { method: "POST", body: { timeoutMs }, ...options }),
    pause: ({ signal, ...body } = {}) => http.get(`${path}/pause`, { method: "POST", body, signal }),
    resume: ({ signal, ...body } = {}) => http.get(`${path}/resume`, { method: "POST", body, signal }),
    snapshot: ({ signal, idempotencyKey = crypto.randomUUID(), ...body } = {}) =>
      http.get(`${path}/snapshots`, { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, signal }),
    restore: (snapshotId, options) => http.get(`${path}/restore`, { method: "POST", body: { snapshotId }, ...options }),
    fork: async ({ signal, idempotencyKey = crypto.randomUUID(), ...body } = {}) => {
      const call = { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, signal };
      const { items } = await http.get<{ items: readonly BatchItem[] }>(`${path}/fork`, call);
      return items.map((item) => remoteItem(http, item));
    },
    portTicket: (port, options) => http.get(`${path}/tickets`, { method: "POST", body: { port }, ...options }),
    terminalTicket: (body, options) => http.get(`${path}/tickets`, { method: "POST", body, ...options }),
    destroy,
    [Symbol.asyncDispose]: () => destroy(),
  };
}

/** Of a batch. */
export function remoteItem(http: Http, item: BatchItem): SandboxHandle | CorralError {
  return "sandbox" in item ? remoteSandbox(http, item.sandbox.id) : asError(item.error);
}

async function exec(http: Http, path: string, request: ClientExecRequest): Promise<ExecResult> {
  const { stdin, onStdout, onStderr, signal, ...rest } = request;
  const body: ExecBody = { ...rest, ...(stdin === undefined ? {} : { stdin: base64(stdin) }) };
  const response = await http.ask(`${path}/exec`, { method: "POST", body, signal });
  const kept: { stdout: Uint8Array[]; stderr: Uint8Array[] } = { stdout: [], stderr: [] };
  for await (const { kind, payload } of frames(response)) {
    if (kind === EXEC_FRAME.stdout) await (onStdout ?? ((chunk) => void kept.stdout.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.stderr) await (onStderr ?? ((chunk) => void kept.stderr.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.end) return { ...(parse(payload) as ExecEnd), stdout: joined(kept.stdout), stderr: joined(kept.stderr) };
    else if (kind === EXEC_FRAME.error) throw streamError(parse(payload) as WireError);
  }
  throw new CorralError("stream_cut", "the connection ended before the command did; it may still run in the sandbox");
}
