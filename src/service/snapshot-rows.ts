// Which snapshot a token reaches, for whoever makes something from one. Invariant: a snapshot of another owner is as one that never was.

import { CorralError } from "../api/errors.ts";
import { isId } from "../api/ids.ts";
import type { CreateSandboxBody } from "../api/server.ts";
import type { SnapshotRecord } from "../store/snapshots.ts";
import type { Token } from "../store/tokens.ts";
import type { ServiceParts } from "./parts.ts";

/** What a sandbox begins with instead of a codebase alone. */
export interface OriginFiles {
  readonly snapshotId: string;
  /** What the sandbox was asked for that they are of. */
  readonly request: CreateSandboxBody;
  /** It has a row, which is kept while somebody stands on it. */
  readonly listed: boolean;
}

export async function findSnapshot({ store }: ServiceParts, token: Token, id: string): Promise<SnapshotRecord> {
  const record = isId("snapshot", id) ? await store.snapshots.get(id, token.scope === "admin" ? undefined : token.ownerId) : undefined;
  if (record === undefined) throw snapshotNotFound(id);
  return record;
}

export async function originOf(parts: ServiceParts, token: Token, body: CreateSandboxBody): Promise<OriginFiles | undefined> {
  if (body.snapshot === undefined) return undefined;
  const record = await findSnapshot(parts, token, body.snapshot);
  demandHere(parts, record);
  return { snapshotId: record.id, request: record.request as CreateSandboxBody, listed: true };
}

export function demandHere({ nodeId }: ServiceParts, record: SnapshotRecord): void {
  if (record.nodeId !== nodeId)
    throw new CorralError(
      "snapshot_state",
      `the snapshot ${record.id} lies on ${record.nodeId}, which this server is not; ask that server`,
    );
}

export function snapshotNotFound(id: string): CorralError {
  return new CorralError("snapshot_not_found", `there is no snapshot ${JSON.stringify(id)}: it never was, or was deleted`);
}
