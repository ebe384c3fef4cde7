// Rows of sandboxes as they are written and told. Pure. Invariant: no environment is in a row.

import type { CreateSandboxBody, SandboxResource } from "../api/server.ts";
import type { SandboxRecord } from "../store/sandboxes.ts";
import type { Token } from "../store/tokens.ts";
import type { KeptNetwork, NodeNetworks } from "./node-networks.ts";
import { endOf, type Info } from "./pausing.ts";

export function newRecord(token: Token, id: string, body: CreateSandboxBody, now: number): Omit<SandboxRecord, "nodeId"> {
  const { metadata = {}, onTimeout = "kill", env: _, ...request } = body; // an environment may hold secrets
  const base = { id, ownerId: token.ownerId, state: "created", memory: null, request, info: {}, onTimeout, metadata } as const;
  return { ...base, createdAt: now, updatedAt: now, endAt: endOf(body.timeoutMs, now) };
}

/** The body of what is made from files of a sandbox that was asked for by `before`. */
export function standingOnFiles(body: CreateSandboxBody, before: CreateSandboxBody): CreateSandboxBody {
  const { codebaseDir, codebase, template, policy, runtime, limits, delta, network } = before;
  return {
    ...(codebaseDir === undefined ? {} : { codebaseDir }),
    ...(codebase === undefined ? {} : { codebase }),
    ...(template === undefined ? {} : { template }),
    ...(policy === undefined ? {} : { policy }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(delta === undefined ? {} : { delta }),
    ...(network === undefined ? {} : { network }),
    ...body,
    ...(limits === undefined && body.limits === undefined ? {} : { limits: { ...limits, ...body.limits } }),
  };
}

export function reaches(token: Token, id: string, ownerId: string): boolean {
  return token.scope === "admin" || (token.ownerId === ownerId && (token.scope === "user" || token.sandboxId === id));
}

export function resource(record: SandboxRecord, networks: Pick<NodeNetworks, "factsOf">): SandboxResource {
  const { id, ownerId, state, memory, metadata, createdAt, endAt, info, request } = record;
  const { network: policy = "none", networkVersion: version = 1 } = request as KeptNetwork;
  const network = policy === "none" ? {} : { network: { version, ...networks.factsOf(policy) } };
  const {
    codebase,
    template,
    snapshot,
    publicPorts = [],
  } = request as Partial<Pick<SandboxResource, "codebase" | "template" | "snapshot" | "publicPorts">>;
  const times = { createdAt: new Date(createdAt).toISOString(), endAt: endAt === null ? null : new Date(endAt).toISOString() };
  const stands = {
    ...(codebase === undefined ? {} : { codebase }),
    ...(template === undefined ? {} : { template }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...network,
  };
  return { id, ownerId, state, ...(memory === null ? {} : { memory }), ...stands, metadata, publicPorts, ...times, ...(info as Info) };
}
