// Stored codebases of a server. Invariant: what is sent is told whole before it is sent; contents go compressed where the platform can.

import { type CodebaseCalls, UPLOAD_FRAME, type UploadCalls, type UploadContent } from "../api/codebases.ts";
import type { Http } from "./http.ts";
import { query } from "./query.ts";
import { bytes, joined } from "./streams.ts";

function placeOf(id: string): string {
  return `/codebases/${encodeURIComponent(id)}`;
}

export function remoteCodebases(http: Http): CodebaseCalls {
  return {
    create: (body, { idempotencyKey = crypto.randomUUID(), ...call } = {}) =>
      http.get("/codebases", { method: "POST", body, headers: { "idempotency-key": idempotencyKey }, ...call }),
    get: (id, call) => http.get(placeOf(id), call),
    list: ({ signal, ...words } = {}) => http.get(`/codebases${query(words)}`, { signal }),
    delete: async (id, call) => void (await http.ask(placeOf(id), { method: "DELETE", ...call })),
    versions: (id, { signal, ...words } = {}) => http.get(`${placeOf(id)}/versions${query(words)}`, { signal }),
    entries: (id, { signal, ...words } = {}) => http.get(`${placeOf(id)}/entries${query(words)}`, { signal }),
    read: (id, path, { signal, version } = {}) => bytes(() => http.ask(`${placeOf(id)}/file${query({ path, version })}`, { signal })),
    tar: (id, { signal, version } = {}) => bytes(() => http.ask(`${placeOf(id)}/tar${query({ version })}`, { signal })),
    put: (id, path, content, { signal, mode, expectedVersion } = {}) => {
      const words = { path, mode: mode?.toString(8), expectedVersion };
      return http.get(`${placeOf(id)}/file${query(words)}`, { method: "PUT", raw: content, signal });
    },
    remove: (id, path, { signal, expectedVersion } = {}) =>
      http.get(`${placeOf(id)}/file${query({ path, expectedVersion })}`, { method: "DELETE", signal }),
    importTar: (id, tar, { signal, expectedVersion } = {}) =>
      http.get(`${placeOf(id)}/tar${query({ expectedVersion })}`, { method: "PUT", raw: tar, signal }),
    importFrom: (id, body, { signal, expectedVersion } = {}) =>
      http.get(`${placeOf(id)}/import${query({ expectedVersion })}`, { method: "POST", body, signal }),
    uploads: remoteUploads(http),
  };
}

function remoteUploads(http: Http): UploadCalls {
  const place = (codebaseId: string, uploadId: string): string => `${placeOf(codebaseId)}/uploads/${encodeURIComponent(uploadId)}`;
  return {
    begin: (codebaseId, body, call) => http.get(`${placeOf(codebaseId)}/uploads`, { method: "POST", body, ...call }),
    get: (codebaseId, uploadId, call) => http.get(place(codebaseId, uploadId), call),
    send: async (codebaseId, uploadId, contents, call) => {
      const raw = await compressed(joined(contents.flatMap(framed)));
      const path = `${place(codebaseId, uploadId)}/contents`;
      await http.ask(path, { method: "PUT", raw, headers: { "content-encoding": "gzip" }, ...call });
    },
    commit: (codebaseId, uploadId, { signal, expectedVersion } = {}) =>
      http.get(`${place(codebaseId, uploadId)}/commit${query({ expectedVersion })}`, { method: "POST", signal }),
    abandon: async (codebaseId, uploadId, call) => void (await http.ask(place(codebaseId, uploadId), { method: "DELETE", ...call })),
  };
}

function framed({ hash, content }: UploadContent): readonly Uint8Array[] {
  const head = new Uint8Array(UPLOAD_FRAME.hashBytes + UPLOAD_FRAME.lengthBytes);
  for (let at = 0; at < UPLOAD_FRAME.hashBytes; at++) head[at] = Number.parseInt(hash.slice(at * 2, at * 2 + 2), 16);
  new DataView(head.buffer).setBigUint64(UPLOAD_FRAME.hashBytes, BigInt(content.length));
  return [head, content];
}

async function compressed(content: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
