// Deltas of many owners: those of living sandboxes and those that ended ones left. Who may reach which is asked of the sandboxes.
// Not how a delta is read or applied: that is view/'s. Invariant: a directory of this machine is written for a key of scope admin alone;
// of one delta one change of its fate (commit, discard) is under way; the answers are bounded whatever a sandbox made.

import type { CommitOptions } from "../api/corral.ts";
import type { CommitReport, DeltaReport, KeptDeltaResource } from "../api/deltas.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import { MAX_DELTA_READS, MAX_PAGE_ITEMS, MAX_TOLD_CHANGES } from "../api/limits.ts";
import type { ListOf } from "../api/server.ts";
import type { SandboxRecord } from "../store/sandboxes.ts";
import type { Token } from "../store/tokens.ts";
import type { ServiceParts } from "./parts.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { tell } from "./tell.ts";

/** Rows that are asked of the store at once. */
const ROWS_AT_ONCE = 100;

export interface PageRequest {
  readonly limit?: number;
  readonly cursor?: string;
}

export class Deltas {
  readonly #parts: ServiceParts;
  readonly #sandboxes: Sandboxes;
  /** Reads under way, by owner. */
  readonly #reading = new Map<string, number>();
  /** Ids of sandboxes whose delta is being committed or discarded. */
  readonly #changing = new Set<string>();

  constructor(parts: ServiceParts, sandboxes: Sandboxes) {
    this.#parts = parts;
    this.#sandboxes = sandboxes;
  }

  async list(token: Token, { limit = MAX_PAGE_ITEMS, cursor = "" }: PageRequest = {}): Promise<ListOf<KeptDeltaResource>> {
    if (token.scope === "sandbox")
      throw new CorralError("forbidden", "a key for one sandbox sees no list of deltas; use a key of scope user");
    const isAdmin = token.scope === "admin";
    const kept = (await this.#parts.corral.deltas.list())
      .map((delta) => ({ ...delta, place: `${delta.createdAt}-${delta.sandboxId}` }))
      .filter(({ place }) => place > cursor)
      .sort((a, b) => (a.place < b.place ? -1 : 1));
    const found: (KeptDeltaResource & { readonly place: string })[] = [];
    for (let at = 0; at < kept.length && found.length <= limit; at += ROWS_AT_ONCE) {
      const some = kept.slice(at, at + ROWS_AT_ONCE);
      const ids = some.map(({ sandboxId }) => sandboxId);
      const records = await this.#parts.store.sandboxes.some(ids, isAdmin ? undefined : token.ownerId);
      for (const { sandboxId, createdAt, cutOff, codebaseDir, place } of some) {
        const record = records.get(sandboxId);
        const dir = isAdmin && !isEmptyCodebase(record) ? { codebaseDir } : {};
        if (isAdmin || record !== undefined) found.push({ sandboxId, ownerId: record?.ownerId ?? null, createdAt, cutOff, ...dir, place });
      }
    }
    const shown = found.slice(0, limit);
    const next = found.length > limit ? shown.at(-1)?.place : undefined;
    return { items: shown.map(({ place: _, ...item }) => item), ...(next === undefined ? {} : { next }) };
  }

  async changes(token: Token, id: string): Promise<DeltaReport> {
    await this.#reach(token, id);
    using _ = this.#read(token);
    const { changes, refused } = await this.#told(id, () => this.#parts.corral.deltas.changes(id));
    return { changes: first(changes), refused: first(refused), counts: { changes: changes.length, refused: refused.length } };
  }

  text(token: Token, id: string, paths?: readonly string[]): AsyncGenerator<Uint8Array> {
    return this.#stream(token, id, () => this.#parts.corral.deltas.text(id, paths));
  }

  export(token: Token, id: string): AsyncGenerator<Uint8Array> {
    return this.#stream(token, id, () => this.#parts.corral.deltas.export(id));
  }

  async commit(token: Token, id: string, options: CommitOptions = {}): Promise<CommitReport> {
    const record = await this.#reach(token, id);
    // A sandbox without a directory of this machine has nothing to be committed to; what the local client says of it holds.
    // SAFETY: it writes with the server's rights.
    if (!isEmptyCodebase(record) && token.scope !== "admin")
      throw new CorralError("forbidden", "commit changes a directory of the server's machine, which takes a key of scope admin");
    return await this.#change(record, id, "commit", async () => {
      const { committed, refused, conflicts, dropped } = await this.#parts.corral.deltas.commit(id, options);
      const counts = { committed: committed.length, refused: refused.length, conflicts: conflicts.length, dropped: dropped.length };
      return { committed: first(committed), refused: first(refused), conflicts: first(conflicts), dropped: first(dropped), counts };
    });
  }

  async discard(token: Token, id: string): Promise<void> {
    const record = await this.#reach(token, id);
    await this.#change(record, id, "discard", () => this.#parts.corral.deltas.discard(id));
  }

  /** The row of the delta's sandbox; `undefined`: one of a run without a server, which an admin may look after. */
  async #reach(token: Token, id: string): Promise<SandboxRecord | undefined> {
    if (token.scope !== "admin") return await this.#sandboxes.reach(token, id);
    try {
      return await this.#sandboxes.reach(token, id);
    } catch (error) {
      if (errorCode(error) === "sandbox_not_found" && (await this.#isKept(id))) return undefined;
      throw error;
    }
  }

  async #change<T>(record: SandboxRecord | undefined, id: string, verb: "commit" | "discard", act: () => Promise<T>): Promise<T> {
    if (this.#changing.has(id))
      throw new CorralError("sandbox_state", `the delta of ${id} is being committed or discarded already; wait for that to end`);
    this.#changing.add(id);
    try {
      const done = await this.#told(id, act);
      if (record !== undefined) await tell(this.#parts, record, `delta-${verb}`);
      return done;
    } catch (error) {
      throw bounded(error);
    } finally {
      this.#changing.delete(id);
    }
  }

  async #isKept(id: string): Promise<boolean> {
    return (await this.#parts.corral.deltas.list()).some(({ sandboxId }) => sandboxId === id);
  }

  async *#stream(token: Token, id: string, open: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    await this.#reach(token, id);
    using _ = this.#read(token);
    const chunks = open()[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#told(id, () => chunks.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await chunks.return?.();
    }
  }

  /** Who reads starts a process and holds what a delta lists: that is bounded for an owner. */
  #read({ ownerId }: Token): Disposable {
    const reading = this.#reading.get(ownerId) ?? 0;
    if (reading >= MAX_DELTA_READS)
      throw new CorralError("limit_reached", `${ownerId} reads ${MAX_DELTA_READS} deltas already, which is the limit; wait for one to end`);
    this.#reading.set(ownerId, reading + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#reading.get(ownerId) ?? 1) - 1;
        if (left === 0) this.#reading.delete(ownerId);
        else this.#reading.set(ownerId, left);
      },
    };
  }

  /** A delta that goes with its sandbox while it is read fails as what it then is: not there. */
  async #told<T>(id: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      const known = errorCode(error);
      if (known !== undefined && known !== "internal") throw error;
      if (this.#sandboxes.lives(id) || (await this.#isKept(id))) throw error;
      throw new CorralError("delta_not_found", `the delta of ${id} went with its sandbox`, { cause: error });
    }
  }
}

function isEmptyCodebase(record: SandboxRecord | undefined): boolean {
  return record !== undefined && (record.request as { readonly codebaseDir?: string }).codebaseDir === undefined;
}

function first<T>(entries: readonly T[]): readonly T[] {
  return entries.length <= MAX_TOLD_CHANGES ? entries : entries.slice(0, MAX_TOLD_CHANGES);
}

/** The lists of a refused commit are as long as a sandbox made them. */
function bounded(error: unknown): unknown {
  if (!(error instanceof CorralError) || error.details === undefined) return error;
  const lists = Object.entries(error.details).filter((entry): entry is [string, unknown[]] => Array.isArray(entry[1]));
  if (lists.length === 0) return error;
  const details = {
    ...error.details,
    ...Object.fromEntries(lists.map(([name, entries]) => [name, first(entries)])),
    counts: Object.fromEntries(lists.map(([name, { length }]) => [name, length])),
  };
  return new CorralError(error.code, error.message, { cause: error, details });
}
