// The audit log: rows wait a moment and are written together, so that no call waits for them. Not what is worth a row: who serves calls
// says that. Invariant: what was recorded is written before the service ends; a killed process loses what came in its last
// AUDIT_WRITE_MS; when the store takes no rows, new calls are refused before more wait than AUDIT_QUEUE.

import type { AuditResource } from "../api/audit.ts";
import { CorralError } from "../api/errors.ts";
import { AUDIT_KEEP_MS, AUDIT_QUEUE, AUDIT_WRITE_MS, MAX_PAGE_ITEMS } from "../api/limits.ts";
import type { ListOf } from "../api/server.ts";
import type { Clock } from "../base/clock.ts";
import type { NewAudit, StoredAudit } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";

export interface AuditRequest {
  readonly after?: string;
  readonly limit?: number;
  readonly subjectId?: string;
}

const ROWS_AT_ONCE = 500;
const CUT_PAUSE_MS = 60 * 60 * 1000;

export class Audit implements AsyncDisposable {
  readonly #store: Store;
  readonly #clock: Clock;
  #waiting: NewAudit[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #cutMs = -Infinity;

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  record(row: Omit<NewAudit, "at">): void {
    this.#waiting.push({ at: this.#clock.wallMs(), ...row });
    this.#timer ??= setTimeout(() => void this.#write().catch(() => undefined), AUDIT_WRITE_MS);
  }

  /** Throws when rows cannot be written any more: what cannot be answered for is not done. */
  demandRoom(): void {
    if (this.#waiting.length >= AUDIT_QUEUE)
      throw new CorralError("store_unavailable", "the audit log cannot be written, so nothing is done that belongs into it; try again");
  }

  async list(token: Token, { after = "0", limit, subjectId }: AuditRequest = {}): Promise<ListOf<AuditResource>> {
    if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox sees no audit log; use a key of scope user");
    if (!/^\d{1,15}$/.test(after))
      throw new CorralError("request_invalid", "cursor: not one that a page before gave; begin again without it");
    await this.#write();
    const most = Math.min(limit ?? MAX_PAGE_ITEMS, MAX_PAGE_ITEMS);
    const owner = token.scope === "admin" ? {} : { ownerId: token.ownerId };
    const rows = await this.#store.audit.after({
      ...owner,
      seq: Number(after),
      limit: most,
      ...(subjectId === undefined ? {} : { subjectId }),
    });
    const items = rows.map(resource);
    const last = items.at(-1);
    return items.length < most || last === undefined ? { items } : { items, next: last.id };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#write();
  }

  /** All that wait, one writer at a time; what failed waits on. */
  #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const written = this.#writing.catch(() => undefined).then(() => this.#writeWaiting());
    this.#writing = written;
    return written;
  }

  async #writeWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const rows = this.#waiting.slice(0, ROWS_AT_ONCE);
      try {
        await this.#store.audit.appendAll(rows);
      } catch (error) {
        this.#timer ??= setTimeout(() => void this.#write().catch(() => undefined), AUDIT_WRITE_MS * 10);
        throw error;
      }
      this.#waiting = this.#waiting.slice(rows.length);
    }
    const now = this.#clock.monotonicMs();
    if (now - this.#cutMs < CUT_PAUSE_MS) return;
    this.#cutMs = now;
    await this.#store.audit.cut(this.#clock.wallMs() - AUDIT_KEEP_MS);
  }
}

type Details = { readonly requestId?: string } & Pick<AuditResource, "count" | "egress">;

function resource({ seq, at, details, ...row }: StoredAudit): AuditResource {
  const { requestId = "", count, egress } = details as Details;
  const more = { ...(count === undefined ? {} : { count }), ...(egress === undefined ? {} : { egress }) };
  return { id: String(seq), at: new Date(at).toISOString(), ...row, requestId, ...more };
}
