// Processes of a server's sandbox. Invariant: an output that was cut is an error, never an end.

import type { CallOptions } from "../api/calls.ts";
import { CorralError } from "../api/errors.ts";
import type { OutputOptions, ProcessCalls, ProcessInfo, ProcessOutput } from "../api/processes.ts";
import { EXEC_FRAME, type WireError } from "../api/server.ts";
import { type Http, streamError } from "./http.ts";
import { frames, parse } from "./streams.ts";

export function remoteProcesses(http: Http, sandbox: string): ProcessCalls {
  const path = `${sandbox}/processes`;
  const one = (id: string): string => `${path}/${encodeURIComponent(id)}`;
  return {
    start: (body, { idempotencyKey = crypto.randomUUID(), ...call } = {}) =>
      http.get(path, { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...call }),
    list: (options) => http.get(path, options),
    get: (id, options) => http.get(one(id), options),
    output: (id, options) => output(http, one(id), options),
    write: async (id, raw, { end = false, ...call } = {}) =>
      void (await http.ask(`${one(id)}/stdin${end ? "?end=true" : ""}`, { method: "POST", raw, ...call })),
    signal: async (id, name, { tree = false, ...call } = {}) =>
      void (await http.ask(`${one(id)}/signal`, { method: "POST", body: { signal: name, tree }, ...call })),
    resize: async (id, size, call) => void (await http.ask(`${one(id)}/resize`, { method: "POST", body: size, ...call })),
    wait: (id, { timeoutMs, ...call } = {}) => http.get(`${one(id)}/wait${timeoutMs === undefined ? "" : `?timeoutMs=${timeoutMs}`}`, call),
    stop: (id, call) => http.get(one(id), { method: "DELETE", ...call }),
  };
}

async function* output(http: Http, path: string, { from, hold, ...call }: OutputOptions & CallOptions = {}): AsyncGenerator<ProcessOutput> {
  const query = [...(from === undefined ? [] : [`from=${from}`]), ...(hold === true ? ["hold=true"] : [])].join("&");
  const response = await http.ask(`${path}/output${query === "" ? "" : `?${query}`}`, call);
  let offset = 0;
  for await (const { kind, payload } of frames(response)) {
    if (kind === EXEC_FRAME.start || kind === EXEC_FRAME.gap) {
      ({ offset } = parse(payload) as { readonly offset: number });
      if (kind === EXEC_FRAME.gap) yield { kind: "gap", offset };
    } else if (kind === EXEC_FRAME.stdout || kind === EXEC_FRAME.stderr) {
      yield { kind: kind === EXEC_FRAME.stdout ? "stdout" : "stderr", offset, bytes: payload };
      offset += payload.length;
    } else if (kind === EXEC_FRAME.end) {
      yield { kind: "end", process: parse(payload) as ProcessInfo };
      return;
    } else if (kind === EXEC_FRAME.error) throw streamError(parse(payload) as WireError);
  }
  throw new CorralError("stream_cut", `the connection ended before the process did; ask again from offset ${offset}`);
}
