// The tables as Kysely sees them: column names and types, the same on both databases. Not what a table means: that is its owner's file.
// Invariant: times are milliseconds since 1970 as numbers, structures are JSON as text, truth is 0 or 1; nothing needs a type that
// only one of the databases has.

import type { Generated, Kysely } from "kysely";

export type StoreKind = "sqlite" | "postgres";

export interface Tables {
  tokens: {
    id: string;
    /** SHA-256 of the secret, hex. The secret itself is nowhere. */
    hash: string;
    owner_id: string;
    scope: string;
    sandbox_id: string | null;
    name: string;
    created_at: number;
    expires_at: number | null;
    revoked_at: number | null;
  };
  sandboxes: {
    id: string;
    owner_id: string;
    /** The data directory of the server that holds it. */
    node_id: string;
    state: string;
    /** 0 once it is gone; written together with `state`, so that the index of living ones serves both planners. */
    live: number;
    request: string;
    info: string;
    on_timeout: string;
    created_at: number;
    updated_at: number;
    end_at: number | null;
    /** 1: paused with its processes, 0: paused without; null: not paused. */
    memory: number | null;
  };
  sandbox_metadata: { sandbox_id: string; key: string; value: string };
  codebases: {
    id: string;
    owner_id: string;
    node_id: string;
    name: string;
    labels: string;
    /** Number of the current version. */
    version: number;
    created_at: number;
    updated_at: number;
  };
  codebase_versions: {
    codebase_id: string;
    number: number;
    root: string;
    bytes: number;
    files: number;
    entries: number;
    source: string;
    created_at: number;
  };
  templates: {
    id: string;
    owner_id: string;
    node_id: string;
    name: string;
    shared: number;
    source: string;
    defaults: string;
    state: string;
    reason: string | null;
    root: string | null;
    bytes: number;
    files: number;
    entries: number;
    created_at: number;
  };
  secrets: {
    id: string;
    owner_id: string;
    node_id: string;
    name: string;
    /** The value, as the node's key sealed it. */
    sealed: string;
    created_at: number;
    updated_at: number;
  };
  template_uses: { sandbox_id: string; template_id: string };
  snapshots: {
    id: string;
    owner_id: string;
    node_id: string;
    sandbox_id: string;
    name: string;
    metadata: string;
    request: string;
    codebase_id: string | null;
    codebase_version: number | null;
    template_id: string | null;
    /** `null`: it is being taken. */
    bytes: number | null;
    created_at: number;
  };
  snapshot_uses: { sandbox_id: string; snapshot_id: string };
  codebase_uses: { sandbox_id: string; codebase_id: string; number: number };
  idempotency: {
    owner_id: string;
    key: string;
    body_hash: string;
    result_id: string;
    /** Of the server that makes the thing; `null`: of one that did not write it down yet. */
    node_id: string | null;
    created_at: number;
    expires_at: number;
  };
  events: { seq: Generated<number>; at: number; owner_id: string; kind: string; subject_id: string; data: string };
  audit: {
    seq: Generated<number>;
    at: number;
    owner_id: string;
    token_id: string;
    action: string;
    subject_id: string;
    outcome: string;
    details: string;
  };
}

export type Db = Kysely<Tables>;
