// The tables of Loom as text that runs on both databases. Not queries: those are with the owner of each table (loom-*.ts).
// Invariant: rows that carry content are never updated and never deleted, and the database itself refuses it; only a session that stands in
// loom_purge, within the transaction that removes it whole, is let go.

import type { StoreKind } from "./tables.ts";

const TABLES = [
  `create table loom_world (id text primary key, owner_id text not null, name text not null, kind text not null, canon_id text,
    config text not null, created_at bigint not null)`,
  `create index loom_world_page on loom_world (owner_id, created_at, id)`,
  `create table loom_canon (id text primary key, world_id text not null, n integer not null, hash text not null, parent_id text,
    files text not null, lint text not null, created_at bigint not null, unique (world_id, n), unique (world_id, hash))`,
  `create table loom_session (id text primary key, world_id text not null, owner_id text not null, name text not null, type text not null,
    status text not null, canon_id text not null, config text not null, seed text not null, branch_id text not null, seq bigint not null,
    lanes integer not null, turns integer not null, writer text, epoch bigint not null, created_at bigint not null,
    updated_at bigint not null)`,
  `create index loom_session_page on loom_session (owner_id, created_at, id)`,
  `create index loom_session_world on loom_session (world_id)`,
  `create table loom_branch (id text primary key, session_id text not null, name text not null, head_id text, forked_at text,
    created_at bigint not null, unique (session_id, name))`,
  `create table loom_lane (session_id text not null, lane integer not null, parent_lane integer, parent_depth integer not null,
    tip integer not null, primary key (session_id, lane))`,
  `create table loom_turn (id text primary key, session_id text not null, branch_id text not null, lane integer, depth integer,
    parent_id text, n integer not null, kind text not null, state text not null, stop_reason text, priority integer not null,
    actor text not null, input_hash text not null, output_hash text, canon_id text, chain text, idem_key text, idem_hash text, error text,
    options text not null, queued_at bigint not null, started_at bigint, ended_at bigint,
    unique (session_id, n), unique (session_id, lane, depth), unique (session_id, idem_key))`,
  `create unique index loom_turn_one_writer on loom_turn (session_id) where state in ('running', 'waiting')`,
  `create index loom_turn_queued on loom_turn (session_id, n) where state = 'queued'`,
  `create table loom_step (session_id text not null, turn_id text not null, n integer not null, attempt integer not null,
    kind text not null, state text not null, name text not null, request_hash text not null, result_hash text, data text,
    started_at bigint not null, ended_at bigint, primary key (turn_id, n, attempt))`,
  `create index loom_step_session on loom_step (session_id)`,
  `create table loom_chunk (turn_id text not null, n integer not null, attempt integer not null, i integer not null, kind text not null,
    body text not null, primary key (turn_id, n, attempt, i))`,
  `create table loom_event (session_id text not null, seq bigint not null, at bigint not null, kind text not null, turn_id text,
    actor text, data text not null, primary key (session_id, seq))`,
  `create table loom_blob (owner text not null, hash text not null, codec text not null, size integer not null, body bytea not null,
    primary key (owner, hash))`,
  `create table loom_purge (session_id text primary key)`,
];

const MONEY_TABLES = [
  `create table loom_budget (scope text not null, scope_id text not null, limit_nano bigint not null, held_nano bigint not null,
    spent_nano bigint not null, primary key (scope, scope_id))`,
  `create table loom_hold (turn_id text not null, n integer not null, attempt integer not null, scope text not null, scope_id text not null,
    nano_usd bigint not null, primary key (turn_id, n, attempt, scope, scope_id))`,
  `create table loom_ledger (id text primary key, session_id text not null, turn_id text not null, n integer not null,
    attempt integer not null, provider text not null, model text not null, input_tokens bigint, cached_tokens bigint, output_tokens bigint,
    reasoning_tokens bigint, nano_usd bigint, certainty text not null, at bigint not null, unique (turn_id, n, attempt))`,
  `create index loom_ledger_session on loom_ledger (session_id, at)`,
];

/** Rows of these tables never change; `key`: the column that names the session, where a purge may take them. */
const CONTENT = [
  { table: "loom_event", key: "session_id" },
  { table: "loom_blob", key: "owner" },
  { table: "loom_canon", key: undefined },
] as const;

/** Columns of rows that live on beside projections: written at the insert, or once into an empty place. */
const ONCE = [
  {
    table: "loom_turn",
    fixed: ["session_id", "branch_id", "n", "kind", "actor", "input_hash", "idem_key", "idem_hash", "options", "queued_at"],
    filled: ["lane", "depth", "parent_id", "output_hash", "canon_id", "chain", "started_at", "ended_at"],
  },
  { table: "loom_step", fixed: ["kind", "name", "request_hash", "started_at"], filled: ["result_hash", "data", "ended_at"] },
] as const;

export function loomTables(kind: StoreKind): readonly string[] {
  return [...TABLES, ...CONTENT.flatMap(({ table, key }) => refused(kind, table, key)), ...ONCE.flatMap((row) => once(kind, row))];
}

export function loomMoneyTables(kind: StoreKind): readonly string[] {
  return [...MONEY_TABLES, ...refused(kind, "loom_ledger", "session_id")];
}

function refused(kind: StoreKind, table: string, key: string | undefined): readonly string[] {
  const purged = key === undefined ? undefined : `exists (select 1 from loom_purge p where p.session_id = old.${key})`;
  return [...trigger(kind, { table, on: "update", unless: undefined }), ...trigger(kind, { table, on: "delete", unless: purged })];
}

function once(kind: StoreKind, { table, fixed, filled }: (typeof ONCE)[number]): readonly string[] {
  const same = kind === "sqlite" ? "is" : "is not distinct from";
  const kept = [
    ...fixed.map((column) => `new.${column} ${same} old.${column}`),
    ...filled.map((column) => `(old.${column} is null or new.${column} ${same} old.${column})`),
  ].join(" and ");
  const purged = `exists (select 1 from loom_purge p where p.session_id = old.session_id)`;
  return [...trigger(kind, { table, on: "update", unless: kept }), ...trigger(kind, { table, on: "delete", unless: purged })];
}

interface Refusal {
  readonly table: string;
  readonly on: "update" | "delete";
  readonly unless: string | undefined;
}

function trigger(kind: StoreKind, { table, on, unless }: Refusal): readonly string[] {
  const name = `${table}_no_${on}`;
  const what = `rows of ${table} are not ${on}d`;
  if (kind === "sqlite") {
    const when = unless === undefined ? "" : `when not (${unless})`;
    return [`create trigger ${name} before ${on} on ${table} ${when} begin select raise(abort, '${what}'); end`];
  }
  const refuse = `raise exception '${what}';`;
  const body = unless === undefined ? refuse : `if not (${unless}) then ${refuse} end if;`;
  return [
    `create function ${name}() returns trigger language plpgsql as $$ begin ${body} return ${on === "delete" ? "old" : "new"}; end $$`,
    `create trigger ${name} before ${on} on ${table} for each row execute function ${name}()`,
  ];
}
