// The client in the server's own process: every call goes straight to the service, as the token it was made for.
// Not a shortcut past it: owners, quotas and states hold as over HTTP. Invariant: it has no method that the SDK lacks.

import type { Client, ClientExecRequest, SandboxHandle } from "../api/client.ts";
import type { DeltaCalls } from "../api/deltas.ts";
import type { EventResource } from "../api/events.ts";
import { CorralError } from "../api/errors.ts";
import type { ExecResult } from "../api/sandbox.ts";
import type { BatchItem } from "../api/server.ts";
import type { Token } from "../store/tokens.ts";
import { createBatch } from "./batch.ts";
import type { EventRequest } from "./events.ts";
import { localTemplates } from "./local-templates.ts";
import { localCodebases } from "./local-codebases.ts";
import { localFiles } from "./local-files.ts";
import { localNetwork } from "./local-networks.ts";
import { localSecrets } from "./local-secrets.ts";
import { localSnapshots } from "./local-snapshots.ts";
import type { Service } from "./service.ts";
import { demandWanted, whileWanted } from "../sandbox/wanted.ts";

export function localClient(service: Service, token: Token): Client {
  const { sandboxes, deltas, events, audit, policies, tokens } = service;
  return {
    create: async (body, { idempotencyKey, signal } = {}) => {
      demandWanted(signal);
      return localSandbox(service, token, (await sandboxes.create(token, body, idempotencyKey)).id);
    },
    createBatch: async (bodies, { idempotencyKey, signal } = {}) => {
      demandWanted(signal);
      const items = await createBatch(sandboxes, token, bodies, idempotencyKey);
      return items.map((item) => localItem(service, token, item));
    },
    sandbox: (id) => localSandbox(service, token, id),
    list: async ({ signal, state, ...request } = {}) => {
      demandWanted(signal);
      return await sandboxes.list(token, { ...request, ...(state === undefined ? {} : { states: [state] }) });
    },
    codebases: localCodebases(service, token),
    templates: localTemplates(service, token),
    snapshots: localSnapshots(service, token),
    secrets: localSecrets(service, token),
    deltas: {
      list: async ({ signal, ...request } = {}) => {
        demandWanted(signal);
        return await deltas.list(token, request);
      },
    },
    audit: {
      list: async ({ signal, cursor, ...request } = {}) => {
        demandWanted(signal);
        return await audit.list(token, { ...request, ...(cursor === undefined ? {} : { after: cursor }) });
      },
    },
    events: {
      list: async ({ signal, cursor, ...request } = {}) => {
        demandWanted(signal);
        return await events.list(token, { ...request, ...(cursor === undefined ? {} : { after: cursor }) });
      },
      follow: ({ signal, ...request } = {}) => followed(service, token, request, signal),
    },
    policies: {
      check: async (text, { signal, ...options } = {}) => {
        demandWanted(signal);
        return await policies.check(token, text, options);
      },
      explain: async (policy, path, { signal, ...options } = {}) => {
        demandWanted(signal);
        return await policies.explain(token, policy, { path, ...options });
      },
    },
    tokens: {
      issue: (body) => tokens.issue(token, body),
      list: ({ ownerId } = {}) => tokens.list(token, ownerId),
      revoke: (id, { ownerId } = {}) => tokens.revoke(token, id, ownerId),
    },
  };
}

function localSandbox(service: Service, token: Token, id: string): SandboxHandle {
  const { sandboxes } = service;
  const destroy = async (): Promise<void> => {
    try {
      await sandboxes.destroy(token, id);
    } catch (error) {
      if (!(error instanceof CorralError) || error.code !== "sandbox_not_found") throw error;
    }
  };
  return {
    id,
    info: () => sandboxes.get(token, id),
    metrics: async ({ signal } = {}) => {
      demandWanted(signal);
      return await sandboxes.metrics(token, id);
    },
    explain: async (path, { signal, ...options } = {}) => {
      demandWanted(signal);
      return await service.policies.explainOf(token, id, { path, ...options });
    },
    exec: async (request: ClientExecRequest): Promise<ExecResult> => await (await sandboxes.open(token, id)).exec(request),
    files: localFiles(() => service.files.of(token, id)),
    delta: localDelta(service, token, id),
    processes: service.processes.processes(token, id),
    shells: service.processes.shells(token, id),
    contexts: service.processes.contexts(token, id),
    network: localNetwork(service, token, id),
    renew: (timeoutMs) => sandboxes.renew(token, id, timeoutMs),
    pause: (body) => sandboxes.pause(token, id, body),
    resume: (body) => sandboxes.resume(token, id, body),
    snapshot: async ({ signal, idempotencyKey, ...body } = {}) => {
      demandWanted(signal);
      return await service.snapshots.take(token, id, body, idempotencyKey);
    },
    restore: async (snapshotId, { signal } = {}) => {
      demandWanted(signal);
      return await service.snapshots.restore(token, id, snapshotId);
    },
    fork: async ({ signal, idempotencyKey, ...body } = {}) => {
      demandWanted(signal);
      return (await service.snapshots.fork(token, id, body, idempotencyKey)).map((item) => localItem(service, token, item));
    },
    portTicket: (port) => service.ports.ticket(token, { sandboxId: id, port }),
    terminalTicket: (body) => service.terminals.ticket(token, id, body),
    destroy,
    [Symbol.asyncDispose]: destroy,
  };
}

function localDelta({ deltas }: Service, token: Token, id: string): DeltaCalls {
  return {
    changes: () => deltas.changes(token, id),
    text: ({ paths, signal } = {}) => whileWanted(deltas.text(token, id, paths), signal),
    export: ({ signal } = {}) => whileWanted(deltas.export(token, id), signal),
    commit: ({ signal, ...options } = {}) => {
      demandWanted(signal);
      return deltas.commit(token, id, options);
    },
    discard: () => deltas.discard(token, id),
  };
}

function localItem(service: Service, token: Token, item: BatchItem): SandboxHandle | CorralError {
  if ("sandbox" in item) return localSandbox(service, token, item.sandbox.id);
  const { code, message, details } = item.error;
  return new CorralError(code, message, details === undefined ? {} : { details });
}

async function* followed(
  { events }: Service,
  token: Token,
  request: EventRequest,
  signal: AbortSignal = new AbortController().signal,
): AsyncGenerator<EventResource> {
  for await (const event of events.follow(token, request, signal)) if (typeof event === "object") yield event;
  demandWanted(signal);
}
