// Turns chosen changes into the operations of one commit, in an order in which each can be done: deletions from below, then what is
// made from above, then modes. Pure.
// Invariant: every operation names what must stand at its path before; the tool does nothing where something else does.

import type { Operation } from "./apply.ts";
import type { DeltaChange, DeltaChanges } from "./changes.ts";
import { ancestors } from "./select.ts";
import { isSame, signatureOf, type Signature } from "./stage.ts";

type EntryNow = DeltaChanges["entryNow"];

export interface PlannedOperation extends Operation {
  /** The change that it belongs to; absent for a directory that only has to be there. */
  readonly change?: DeltaChange;
}

/** Mode of a directory that a preset made in the view and that the codebase lacks. */
const MADE_DIR_MODE = 0o755;

export function planOperations(chosen: readonly DeltaChange[], entryNow: EntryNow): readonly PlannedOperation[] {
  const deletions = chosen.flatMap(deletionOf).sort((a, b) => (a.path < b.path ? 1 : -1));
  const made = new Set<string>();
  const makings = chosen.flatMap((change) => [...missingDirs(change, entryNow, made), ...makingOf(change, made)]);
  return [...deletions, ...makings, ...chosen.flatMap(modeOf)];
}

function deletionOf(change: DeltaChange): PlannedOperation[] {
  const { path, before, after, from, fromEntry } = change;
  if (from !== undefined && fromEntry !== undefined) return [{ kind: "D", path: from, before: signatureOf(fromEntry), mode: 0, change }];
  if (before === undefined || change.kind === "mode") return [];
  if (before.kind === "dir") return after?.kind === "dir" ? [] : [{ kind: "R", path, before: signatureOf(before), mode: 0, change }];
  if (after !== undefined && after.kind !== "dir") return [];
  return [{ kind: "D", path, before: signatureOf(before), mode: 0, change }];
}

function makingOf(change: DeltaChange, made: Set<string>): PlannedOperation[] {
  const { path, before, after, mode, kind } = change;
  if (after === undefined || kind === "mode") return [];
  // A directory on either side was cleared away by a deletion.
  const replaced = before === undefined || before.kind === "dir" || after.kind === "dir" ? {} : { before: signatureOf(before) };
  if (after.kind === "dir") {
    if (before?.kind === "dir") return [];
    made.add(path);
    return [{ kind: "M", path, mode, change }];
  }
  if (after.kind === "link") return [{ kind: "L", path, ...replaced, mode: 0, target: after.target, change }];
  if (after.source === undefined || after.signature === undefined) return [];
  return [{ kind: "F", path, ...replaced, mode, source: after.source, signature: after.signature, change }];
}

function modeOf(change: DeltaChange): PlannedOperation[] {
  const { path, before, kind, mode } = change;
  return kind === "mode" && before !== undefined ? [{ kind: "C", path, before: signatureOf(before), mode, change }] : [];
}

/** Directories above an entry that the view had and the codebase has not. */
function missingDirs({ path, after, kind }: DeltaChange, entryNow: EntryNow, made: Set<string>): PlannedOperation[] {
  if (after === undefined || kind === "mode") return [];
  const missing = [...ancestors(path)].filter((dir) => !made.has(dir) && entryNow(dir) === undefined);
  for (const dir of missing) made.add(dir);
  return missing.toReversed().map((dir) => ({ kind: "M", path: dir, mode: MADE_DIR_MODE }));
}

export interface Expectation {
  readonly signature: Signature | undefined;
  /** A directory above: another one at its place matters, its mode does not. */
  readonly above: boolean;
  readonly operation: PlannedOperation;
}

/** What the codebase must still hold for the operations to be right: their own paths, the sources in it, the directories above. */
export function expectations(operations: readonly PlannedOperation[], entryNow: EntryNow): ReadonlyMap<string, Expectation> {
  const expected = new Map<string, Expectation>();
  const cleared = new Set(operations.filter(({ kind }) => kind === "D" || kind === "R").map(({ path }) => path));
  for (const operation of operations) {
    const { path, before, source, signature } = operation;
    // What the same plan clears away first is expected at the clearing.
    if (before !== undefined || !cleared.has(path)) expected.set(path, { signature: before, above: false, operation });
    if (source?.root === "base" && !expected.has(source.path)) expected.set(source.path, { signature, above: false, operation });
    for (const dir of ancestors(path)) {
      const entry = entryNow(dir);
      if (expected.has(dir) || entry === undefined || cleared.has(dir)) continue;
      expected.set(dir, { signature: signatureOf(entry), above: true, operation });
    }
  }
  return expected;
}

/** Why what stands there now is a conflict, in words; `undefined` when it is none. */
export function conflictAt({ signature, above }: Expectation, now: Signature | undefined): string | undefined {
  if (above)
    return now?.kind === "dir" && now.ino === signature?.ino ? undefined : "a directory above it was replaced in the codebase meanwhile";
  if (isSame(signature, now)) return undefined;
  if (signature === undefined) return "it was made in the codebase meanwhile";
  return now === undefined ? "it was removed from the codebase meanwhile" : "it was changed in the codebase meanwhile";
}
