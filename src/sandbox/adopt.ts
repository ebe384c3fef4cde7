// What a server does at its start with the sandboxes that an earlier one left alive: goes on with those that are whole, ends the others.
// The clearing of journals and deltas afterwards is settle.ts's. Invariant: of the sandboxes in a spawner that was taken over each is in the
// list that is returned or is ended, and only ids that stand in the journal of this data directory are gone on with.

import { rmSync } from "node:fs";
import { readKept } from "../view/kept.ts";
import type { Workshop } from "./workshop.ts";
import { isNetworked } from "./doors.ts";
import { type FoundEntry, listJournal, type MadeRecord } from "./journal.ts";
import { isPaused } from "./paused-record.ts";
import { present } from "./present.ts";
import type { LocalSandbox } from "./sandbox.ts";

export interface Adoption {
  readonly sandboxes: readonly LocalSandbox[];
  /** Ids of which nothing lives any more, although their spawner does. */
  readonly ended: readonly string[];
}

export async function adopt(shop: Workshop): Promise<Adoption> {
  const { runtime, data } = shop;
  const alive = [...runtime.adopted];
  const entries = new Map(listJournal(data.journal).entries.map((entry) => [entry.id, entry]));
  const uses = new Map<string, number>();
  const results = await Promise.all(alive.map((id) => adoptOne(shop, id, entries.get(id), uses)));
  const sandboxes = results.filter((one) => one !== undefined);
  // Those that died meanwhile, and those of which the spawner was never told: a clear waits for the end of what it is at.
  const ours = [...entries.values()].filter(({ maker }) => isSame(maker, runtime.keeper)).map(({ id }) => id);
  const kept = new Set(sandboxes.map(({ id }) => id));
  const ended = [...new Set([...alive, ...ours])].filter((id) => !kept.has(id));
  await Promise.all(ended.map((id) => runtime.clear(id)));
  return { sandboxes, ended };
}

/** `undefined`: it is not whole, or it did not answer as it was made; then it is to be cleared. */
async function adoptOne(
  shop: Workshop,
  id: string,
  entry: FoundEntry | undefined,
  uses: Map<string, number>,
): Promise<LocalSandbox | undefined> {
  if (entry?.made === undefined || entry.runtime !== shop.runtime.name) return undefined;
  const { request, info, uses: own, late }: MadeRecord = entry.made;
  try {
    const record = readKept(shop.data.deltas, id);
    const networked = isNetworked(request);
    if (networked) await shop.doors?.open(id, request.network ?? "none");
    const container = await shop.runtime.attach({
      id,
      weaken: shop.weaken,
      networked,
      ...(late === true ? { lateEnv: request.env ?? {} } : {}),
    });
    for (const use of own) uses.set(use, (uses.get(use) ?? 0) + 1);
    const sandbox = present(shop, { container, request, info, record, releaseView: () => letGo(uses, own) });
    // A guest that answers this wrongly is lost by that, and told so as any other.
    await sandbox.takeUp().catch(() => undefined);
    return isPaused(shop.data.deltas, id) ? await stoodStill(sandbox) : sandbox;
  } catch {
    await shop.doors?.close(id).catch(() => undefined);
    return undefined;
  }
}

/** To be taken over it had to go on for a moment. What cannot stand still again is paused all the same, without its processes. */
async function stoodStill(sandbox: LocalSandbox): Promise<LocalSandbox | undefined> {
  try {
    await sandbox.pause(true);
    return sandbox;
  } catch {
    await sandbox.pause(false);
    return undefined;
  }
}

/** Sandboxes that were made at the same time share one hold on their mask. */
function letGo(uses: Map<string, number>, own: readonly string[]): void {
  for (const use of own) {
    const left = (uses.get(use) ?? 1) - 1;
    uses.set(use, left);
    if (left === 0) rmSync(use, { force: true });
  }
}

function isSame(
  one: { readonly pid: number; readonly startTicks: string },
  other: { readonly pid: number; readonly startTicks: string },
): boolean {
  return one.pid === other.pid && one.startTicks === other.startTicks;
}
