// What happened: events for whoever follows a sandbox, the audit log for whoever answers for it. Both only grow and are cut by age.
// Invariant: a record is never changed; `seq` grows, and a reader who goes on behind the last one it saw misses none of a single
// writer. Two writers on PostgreSQL may commit out of order: who needs all of them reads again from a little before.

import type { Insertable } from "kysely";
import { MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { Db, Tables } from "./tables.ts";

export interface NewEvent {
  readonly at: number;
  readonly ownerId: string;
  /** Noun and verb: `sandbox-create`. */
  readonly kind: string;
  readonly subjectId: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface StoredEvent extends NewEvent {
  readonly seq: number;
}

export interface NewAudit {
  readonly at: number;
  readonly ownerId: string;
  readonly tokenId: string;
  /** The act that was asked for: `sandbox.destroy`. */
  readonly action: string;
  readonly subjectId: string;
  /** `ok`, or the code of the error. */
  readonly outcome: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface StoredAudit extends NewAudit {
  readonly seq: number;
}

export interface After {
  /** Absent: of all owners. */
  readonly ownerId?: string;
  readonly subjectId?: string;
  /** Of events alone: only these. */
  readonly kinds?: readonly string[];
  /** Records behind this one; 0 begins at the oldest. */
  readonly seq: number;
  readonly limit?: number;
}

export interface Log<New, Stored> {
  append(record: New): Promise<number>;
  /** `seq` of the newest, 0 when there is none. */
  last(): Promise<number>;
  after(request: After): Promise<readonly Stored[]>;
  /** Removes what happened before; returns how many. */
  cut(before: number): Promise<number>;
}

export function eventsOf(db: Db): Log<NewEvent, StoredEvent> {
  return {
    append: async ({ at, ownerId, kind, subjectId, data }) => {
      const row = { at, owner_id: ownerId, kind, subject_id: subjectId, data: JSON.stringify(data) };
      return (await db.insertInto("events").values(row).returning("seq").executeTakeFirstOrThrow()).seq;
    },
    last: async () =>
      (
        await db
          .selectFrom("events")
          .select(({ fn }) => fn.max("seq").as("seq"))
          .executeTakeFirst()
      )?.seq ?? 0,
    after: async ({ ownerId, subjectId, kinds, seq, limit }) => {
      let query = db.selectFrom("events").selectAll().where("seq", ">", seq).orderBy("seq").limit(pageOf(limit));
      if (ownerId !== undefined) query = query.where("owner_id", "=", ownerId);
      if (subjectId !== undefined) query = query.where("subject_id", "=", subjectId);
      if (kinds !== undefined) query = query.where("kind", "in", [...kinds]);
      return (await query.execute()).map(({ owner_id, subject_id, data, ...row }) => ({
        ...row,
        ownerId: owner_id,
        subjectId: subject_id,
        data: objectOf(data),
      }));
    },
    cut: async (before) => Number((await db.deleteFrom("events").where("at", "<", before).executeTakeFirst()).numDeletedRows),
  };
}

export interface AuditLog extends Log<NewAudit, StoredAudit> {
  /** All or none. */
  appendAll(records: readonly NewAudit[]): Promise<void>;
}

export function auditOf(db: Db): AuditLog {
  return {
    append: async (record) => (await db.insertInto("audit").values(auditRow(record)).returning("seq").executeTakeFirstOrThrow()).seq,
    appendAll: async (records) => {
      if (records.length > 0) await db.insertInto("audit").values(records.map(auditRow)).execute();
    },
    last: async () =>
      (
        await db
          .selectFrom("audit")
          .select(({ fn }) => fn.max("seq").as("seq"))
          .executeTakeFirst()
      )?.seq ?? 0,
    after: async ({ ownerId, subjectId, seq, limit }) => {
      let query = db.selectFrom("audit").selectAll().where("seq", ">", seq).orderBy("seq").limit(pageOf(limit));
      if (ownerId !== undefined) query = query.where("owner_id", "=", ownerId);
      if (subjectId !== undefined) query = query.where("subject_id", "=", subjectId);
      return (await query.execute()).map(({ owner_id, subject_id, token_id, details, ...row }) => ({
        ...row,
        ownerId: owner_id,
        subjectId: subject_id,
        tokenId: token_id,
        details: objectOf(details),
      }));
    },
    cut: async (before) => Number((await db.deleteFrom("audit").where("at", "<", before).executeTakeFirst()).numDeletedRows),
  };
}

function auditRow({ at, ownerId, tokenId, action, subjectId, outcome, details }: NewAudit): Insertable<Tables["audit"]> {
  return { at, owner_id: ownerId, token_id: tokenId, action, subject_id: subjectId, outcome, details: JSON.stringify(details) };
}

function pageOf(limit: number = MAX_PAGE_ITEMS): number {
  return Math.min(Math.max(limit, 1), MAX_PAGE_ITEMS);
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  return JSON.parse(text) as Readonly<Record<string, unknown>>;
}
