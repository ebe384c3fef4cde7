// Codebases as the local client tells them: each call is the service's. Invariant: it has no call that the SDK lacks.

import type { CodebaseCalls, UploadCalls, UploadContent } from "../api/codebases.ts";
import type { Token } from "../store/tokens.ts";
import { demandWanted, whileWanted } from "../sandbox/wanted.ts";
import type { Service } from "./service.ts";
import type { IncomingContent } from "./uploads.ts";

export function localCodebases(service: Service, token: Token): CodebaseCalls {
  const { codebases, codebaseReads } = service;
  return {
    create: async (body, { signal, idempotencyKey } = {}) => {
      demandWanted(signal);
      return await codebases.create(token, body, idempotencyKey);
    },
    get: (id) => codebases.get(token, id),
    list: ({ signal: _, ...request } = {}) => codebases.list(token, request),
    delete: (id) => codebases.delete(token, id),
    versions: (id, { signal: _, ...page } = {}) => codebases.versions(token, id, page),
    entries: (id, { signal: _, ...options } = {}) => codebaseReads.entries(token, id, options),
    read: (id, path, { signal, version } = {}) => whileWanted(codebaseReads.read(token, id, path, version), signal),
    tar: (id, { signal, version } = {}) => whileWanted(codebaseReads.tar(token, id, version), signal),
    put: async (id, path, content, { signal, mode, ...change } = {}) => {
      demandWanted(signal);
      return await codebases.put(token, id, { path, content: [content], ...(mode === undefined ? {} : { mode }) }, change);
    },
    remove: async (id, path, { signal, ...change } = {}) => {
      demandWanted(signal);
      return await codebases.remove(token, id, path, change);
    },
    importTar: async (id, tar, { signal, ...change } = {}) => {
      demandWanted(signal);
      return await codebases.importTar(token, id, one(tar), change);
    },
    importFrom: async (id, source, { signal, ...change } = {}) => {
      demandWanted(signal);
      return await codebases.importFrom(token, id, source, change);
    },
    uploads: localUploads(service, token),
  };
}

function localUploads({ uploads }: Service, token: Token): UploadCalls {
  return {
    begin: async (codebaseId, body, { signal } = {}) => {
      demandWanted(signal);
      return await uploads.begin(token, codebaseId, body);
    },
    get: (codebaseId, uploadId) => uploads.get(token, codebaseId, uploadId),
    send: (codebaseId, uploadId, contents, { signal } = {}) =>
      uploads.send(token, codebaseId, uploadId, whileWanted(incoming(contents), signal)),
    commit: async (codebaseId, uploadId, { signal, ...change } = {}) => {
      demandWanted(signal);
      return await uploads.commit(token, codebaseId, uploadId, change);
    },
    abandon: (codebaseId, uploadId) => uploads.abandon(token, codebaseId, uploadId),
  };
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* incoming(contents: readonly UploadContent[]): AsyncGenerator<IncomingContent> {
  for (const { hash, content } of contents) yield { hash, size: content.length, content: [content] };
}
