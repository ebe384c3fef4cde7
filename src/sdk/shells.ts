// Shells of a server's sandbox. Invariant: a run that was cut is an error, never a short result.

import { CorralError } from "../api/errors.ts";
import { EXEC_FRAME, type WireError } from "../api/server.ts";
import type { RunInShell, ShellCalls, ShellResult } from "../api/shells.ts";
import { type Http, streamError } from "./http.ts";
import { base64, frames, joined, parse } from "./streams.ts";

export function remoteShells(http: Http, sandbox: string): ShellCalls {
  const path = `${sandbox}/shells`;
  const one = (id: string): string => `${path}/${encodeURIComponent(id)}`;
  return {
    open: (body = {}, { idempotencyKey = crypto.randomUUID(), ...call } = {}) =>
      http.get(path, { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...call }),
    list: (options) => http.get(path, options),
    get: (id, options) => http.get(one(id), options),
    run: (id, request) => run(http, one(id), request),
    interrupt: async (id, call) => void (await http.ask(`${one(id)}/interrupt`, { method: "POST", ...call })),
    close: async (id, call) => void (await http.ask(one(id), { method: "DELETE", ...call })),
  };
}

async function run(http: Http, path: string, request: RunInShell): Promise<ShellResult> {
  const { stdin, onStarted, onStdout, onStderr, signal, ...rest } = request;
  const body = { ...rest, ...(stdin === undefined ? {} : { stdin: base64(stdin) }) };
  const response = await http.ask(`${path}/run`, { method: "POST", body, signal });
  const kept: { stdout: Uint8Array[]; stderr: Uint8Array[] } = { stdout: [], stderr: [] };
  for await (const { kind, payload } of frames(response)) {
    if (kind === EXEC_FRAME.start) onStarted?.();
    else if (kind === EXEC_FRAME.stdout) await (onStdout ?? ((chunk) => void kept.stdout.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.stderr) await (onStderr ?? ((chunk) => void kept.stderr.push(chunk)))(payload);
    else if (kind === EXEC_FRAME.end)
      return { ...(parse(payload) as Omit<ShellResult, "stdout" | "stderr">), stdout: joined(kept.stdout), stderr: joined(kept.stderr) };
    else if (kind === EXEC_FRAME.error) throw streamError(parse(payload) as WireError);
  }
  throw new CorralError("stream_cut", "the connection ended before the command did; it may still run in the shell");
}
