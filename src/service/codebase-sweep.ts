// When the disk of codebases is swept: at the start, after a codebase was deleted, and after many versions were forgotten. What is needed
// is read from rows, uploads under way and kept deltas at that moment. Invariant: a sweep that fails leaves everything; nobody waits for
// one but the end of the server.

import type { KeptDelta } from "../api/corral.ts";
import { UPLOAD_MS } from "../api/limits.ts";
import type { StoredBase } from "../api/sandbox.ts";
import { listUploads } from "../codebases/upload-record.ts";
import type { ServiceParts } from "./parts.ts";

/** Forgotten versions of an owner that are worth a sweep. */
const MANY_FORGOTTEN = 200;

type KeptOver = KeptDelta & { readonly stored: StoredBase };

export class CodebaseSweep implements AsyncDisposable {
  readonly #parts: ServiceParts;
  readonly #forgotten = new Map<string, number>();
  /** Owners whose sweep has not begun yet. */
  readonly #waiting = new Set<string>();
  #sweeping: Promise<void> = Promise.resolve();

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  /** Removes stores of owners who have no codebase any more; the others are swept while the server serves. */
  async begin(): Promise<void> {
    const { store, nodeId, codebases } = this.#parts;
    const owners = new Set([...(await store.codebases.owners(nodeId)), ...(await store.templates.owners(nodeId))]);
    const kept = (await this.#kept()).map(({ stored }) => stored.ownerId);
    await codebases.forgetOthers([...owners, ...kept]);
    for (const ownerId of owners) this.later(ownerId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#waiting.clear();
    await this.#sweeping;
  }

  later(ownerId: string): void {
    if (this.#waiting.has(ownerId)) return;
    this.#waiting.add(ownerId);
    // One at a time; what fails is found again by the next start.
    this.#sweeping = this.#sweeping.then(() => this.#sweep(ownerId)).catch(() => undefined);
  }

  forgot(ownerId: string, versions: number): void {
    const forgotten = (this.#forgotten.get(ownerId) ?? 0) + versions;
    this.#forgotten.set(ownerId, forgotten < MANY_FORGOTTEN ? forgotten : 0);
    if (forgotten >= MANY_FORGOTTEN) this.later(ownerId);
  }

  async keptOver(codebaseId: string): Promise<readonly KeptOver[]> {
    return (await this.#kept()).filter(({ stored }) => stored.codebaseId === codebaseId);
  }

  async #kept(): Promise<readonly KeptOver[]> {
    return (await this.#parts.corral.deltas.list()).filter((delta): delta is KeptOver => delta.stored !== undefined);
  }

  async #sweep(ownerId: string): Promise<void> {
    if (!this.#waiting.delete(ownerId)) return;
    const { store, nodeId, codebases, clock } = this.#parts;
    // A row that came back after a power cut would name what is gone from the disk.
    await store.settled();
    await codebases.sweep(ownerId, async ({ uploads }) => {
      const told = listUploads(uploads, clock.wallMs() - UPLOAD_MS).map(({ tree }) => tree.root);
      const kept = (await this.#kept()).filter(({ stored }) => stored.ownerId === ownerId).map(({ stored }) => stored.root);
      const rows = [await store.codebases.roots(nodeId, ownerId), await store.templates.roots(nodeId, ownerId)];
      return [...rows.flat(), ...told, ...kept];
    });
  }
}
