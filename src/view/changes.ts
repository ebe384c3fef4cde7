// From a delta to the list of what changed: merged view against the base at the start, contents compared where only bytes can tell.
// Pure of verdicts: judge.ts says what of it may be committed.
// Invariant: what was only looked at, touched or rewritten with the same bytes is no change; each path stands in the list once.

import { existsSync } from "node:fs";
import { CorralError } from "../api/errors.ts";
import type { Change, ChangeKind, ChangeType } from "../api/sandbox.ts";
import type { EntryKind, Permission } from "../api/policy.ts";
import { printable } from "../policy/bytes.ts";
import type { CompiledPolicy } from "../policy/compile.ts";
import { type BaseTree, readBase, rebasedEntry } from "./base-tree.ts";
import { merge, wantedBase, type After, type Difference, type Merge } from "./merge.ts";
import type { Rebased } from "./kept.ts";
import { compare, type PlaceOf } from "./stage.ts";
import { readDelta } from "./stack.ts";
import type { RunTool } from "./view.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

/** Where a delta lies and what it is measured against. */
export interface DeltaInput {
  readonly tool: RunTool;
  /** The layer that the sandbox wrote; with `parts`, the directory that it and the frozen ones lie in. */
  readonly upper: string;
  /** Layers below `upper`, topmost first. */
  readonly parts?: readonly string[];
  /** The live codebase. */
  readonly base: string;
  /** The walk of the codebase at the start, read anew at each call. */
  readonly manifest: () => AsyncIterable<readonly WalkEvent[]>;
  readonly policy: CompiledPolicy;
  /** Form of the overlay marks. */
  readonly trusted: boolean;
  /** What stands in the codebase now at paths that we ourselves changed since the start (an earlier commit of this delta). */
  readonly rebased?: ReadonlyMap<string, Rebased>;
  /** Permission bits that the view gave a base entry of a level. */
  readonly shownMode: ShownMode;
}

export type ShownMode = (entry: WalkEntry, permission: Permission) => number;

export interface DeltaChange extends Difference {
  readonly kind: ChangeKind;
  readonly type: ChangeType;
  /** Old path of a rename, latin1; `fromEntry` is what stood there. */
  readonly from?: string;
  readonly fromEntry?: WalkEntry;
  /** Permission bits that the committed entry gets; 0 for a deletion. */
  readonly mode: number;
}

export interface DeltaChanges {
  /** Sorted by the bytes of the path. */
  readonly changes: readonly DeltaChange[];
  readonly remade: Merge["remade"];
  /** Inode of the codebase directory at the start. */
  readonly rootIno: number;
  /** What the codebase should hold at a path that the delta touches, or above one. */
  readonly entryNow: (path: string) => WalkEntry | undefined;
  /** Where the content of a file of the codebase lies in the base. */
  readonly placeOf: PlaceOf;
}

const MODE_BITS = 0o777;
const MIXED_DIR_MODE = 0o1777;

export async function readChanges(input: DeltaInput): Promise<DeltaChanges> {
  if (!existsSync(input.base))
    throw new CorralError(
      "codebase_not_found",
      `the directory that the delta was made over, ${input.base}, is gone; bring it back, or discard the delta`,
    );
  const upper = await readDelta(input);
  const rebased = input.rebased ?? new Map<string, Rebased>();
  const { dirs, trees } = wantedBase(upper);
  const base = await readBase(input.manifest(), { dirs: new Set([...dirs, ...[...rebased.keys()].map(parentOf)]), trees });
  const merged = merge({ upper, base, policy: input.policy });
  const { remade } = merged;
  const found = [...rebase(merged.found, rebased), ...withdrawn(merged.found, rebased, base)].sort((a, b) => (a.path < b.path ? -1 : 1));
  const placeOf: PlaceOf = (path) => input.rebased?.get(path)?.place ?? base.get(path)?.place ?? path;
  const equal = await equalContents(input, found, placeOf);
  const changes: DeltaChange[] = [];
  for (const difference of found) {
    const change = classify(input, difference, equal.has(difference));
    if (change !== undefined) changes.push(change);
  }
  const entryNow = (path: string): WalkEntry | undefined => {
    const now = input.rebased?.get(path);
    if (now !== undefined) return rebasedEntry(path, now);
    const above = path.slice(0, path.lastIndexOf("/"));
    if (above !== "" && entryNow(above)?.kind !== "dir") return undefined;
    if (!base.isListed(above)) throw new CorralError("internal", `the base of ${printable(path)} was not read`);
    return base.get(path);
  };
  return { changes: pairRenames(changes), remade, rootIno: base.root?.ino ?? 0, entryNow, placeOf };
}

/**
 * Measures against what earlier commits of this delta made of the codebase. The layer itself is always read over the base of the
 * start: its marks lead there. What such a mark led to may have been moved since, by us, to where it shows up.
 */
function rebase(found: readonly Difference[], rebased: ReadonlyMap<string, Rebased>): readonly Difference[] {
  if (rebased.size === 0) return found;
  return found.flatMap((difference) => {
    const { before: _, compare: __, ...rest } = difference;
    const { path, after } = difference;
    const now = rebased.get(path);
    const before = now === undefined ? difference.before : rebasedEntry(path, now);
    if (before === undefined && after === undefined) return [];
    const source = rebasedSource(difference, now, rebased);
    const own = source.source?.path === path && source.source.root === "base";
    const asks = !own && before?.kind === "file" && after?.kind === "file" && before.size === after.size;
    return [
      {
        ...rest,
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after: { ...after, ...source } }),
        ...(asks ? { compare: true } : {}),
      },
    ];
  });
}

/** What an earlier commit of this delta added and the delta holds no more: the layer over the base of the start says nothing of it. */
function withdrawn(found: readonly Difference[], rebased: ReadonlyMap<string, Rebased>, base: BaseTree): readonly Difference[] {
  if (rebased.size === 0) return [];
  const told = new Set(found.map(({ path }) => path));
  return [...rebased].flatMap(([path, now]): Difference[] => {
    const before = rebasedEntry(path, now);
    return before === undefined || told.has(path) || base.get(path) !== undefined ? [] : [{ path, before }];
  });
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function rebasedSource(
  { path, after }: Difference,
  now: Rebased | undefined,
  rebased: ReadonlyMap<string, Rebased>,
): Pick<After, "source" | "signature"> {
  const { source, signature } = after ?? {};
  const origin = source?.root === "base" ? rebased.get(source.path) : undefined;
  if (source === undefined || origin === undefined)
    return { ...(source === undefined ? {} : { source }), ...(signature === undefined ? {} : { signature }) };
  if (origin.signature?.kind === "file") return { source, signature: origin.signature };
  return now?.signature?.kind === "file"
    ? { source: { root: "base", path }, signature: now.signature }
    : { source, ...(signature === undefined ? {} : { signature }) };
}

/** Those of `found` whose bytes are what the codebase holds. */
async function equalContents(input: DeltaInput, found: readonly Difference[], placeOf: PlaceOf): Promise<Set<Difference>> {
  const equal = new Set<Difference>();
  for (const root of ["upper", "base"] as const) {
    const asked = found.filter((difference) => difference.compare === true && difference.after?.source?.root === root);
    const pairs = asked.map(({ path, after }) => {
      const source = after?.source?.path ?? "";
      return [root === "upper" ? source : placeOf(source), placeOf(path)] as const;
    });
    const answers = await compare(input.tool, [root === "upper" ? input.upper : input.base, input.base], pairs);
    answers.forEach((answer, index) => {
      const difference = asked[index];
      if (answer && difference !== undefined) equal.add(difference);
    });
  }
  return equal;
}

function classify(input: DeltaInput, difference: Difference, sameBytes: boolean): DeltaChange | undefined {
  const { path, before, after } = difference;
  if (after === undefined) return { ...difference, kind: "delete", type: typeOf(before?.kind ?? "other"), mode: 0 };
  const type = typeOf(after.kind);
  const mode = resultMode(input, difference);
  if (before === undefined) return { ...difference, kind: "add", type, mode };
  // A FIFO, socket or device of the base was shown as an empty file without rights: one that still is was only copied.
  if (before.kind === "other" && after.kind === "file" && after.size === 0 && (after.mode & MODE_BITS) === 0) return undefined;
  if (before.kind !== after.kind) return { ...difference, kind: "modify", type, mode };
  const same =
    after.kind === "dir" ||
    sameBytes ||
    (after.kind === "file" ? after.source?.path === path && after.source.root === "base" : after.target === before.target);
  if (!same) return { ...difference, kind: "modify", type, mode };
  if (after.kind === "link") return undefined;
  return hasNewMode(input, difference) ? { ...difference, kind: "mode", type, mode } : undefined;
}

function typeOf(kind: EntryKind): ChangeType {
  return kind;
}

function shown(input: DeltaInput, path: string, entry: WalkEntry): number {
  return input.shownMode(entry, input.policy.verdict(path, entry.kind).permission) & MODE_BITS;
}

function hasNewMode(input: DeltaInput, { path, before, after }: Difference): boolean {
  // A directory that holds something below `write` is shown so; no result ever gets these bits.
  if (after?.kind === "dir" && (after.mode & 0o7777) === MIXED_DIR_MODE) return false;
  return before !== undefined && after !== undefined && (after.mode & MODE_BITS) !== shown(input, path, before);
}

/** A mode that is as the view showed it means the codebase's own, which may be narrower; another one was chosen inside. */
function resultMode(input: DeltaInput, { path, before, after }: Difference): number {
  if (after === undefined) return 0;
  const mode = after.mode & MODE_BITS;
  if (after.moved !== undefined && after.moved !== before) {
    const origin = after.source?.path ?? path;
    return mode === (after.moved.mode & MODE_BITS) || mode === shown(input, origin, after.moved) ? after.moved.mode & MODE_BITS : mode;
  }
  if (
    before !== undefined &&
    before.kind === after.kind &&
    (mode === shown(input, path, before) || !hasNewMode(input, { path, before, after }))
  )
    return before.mode & MODE_BITS;
  return mode;
}

/** A base entry that shows up elsewhere unchanged while its own path is gone was renamed; anything less certain stays two changes. */
function pairRenames(changes: readonly DeltaChange[]): readonly DeltaChange[] {
  const deleted = new Map<string, DeltaChange>();
  for (const change of changes) if (change.kind === "delete" && change.type !== "dir") deleted.set(change.path, change);
  const renames = new Map<DeltaChange, DeltaChange>();
  for (const change of changes) {
    const origin = change.after?.source?.root === "base" ? change.after.source.path : undefined;
    const old = origin === undefined || change.kind !== "add" || change.type === "dir" ? undefined : deleted.get(origin);
    if (old === undefined || origin === undefined) continue;
    deleted.delete(origin);
    renames.set(change, { ...change, kind: "rename", from: origin, ...(old.before === undefined ? {} : { fromEntry: old.before }) });
  }
  const gone = new Set([...renames.values()].map((change) => change.from));
  return changes.filter((change) => change.kind !== "delete" || !gone.has(change.path)).map((change) => renames.get(change) ?? change);
}

/** As clients see it. */
export function toChange(change: DeltaChange, flag: string | undefined): Change {
  return {
    path: printable(change.path),
    kind: change.kind,
    type: change.type,
    ...(change.from === undefined ? {} : { from: printable(change.from) }),
    ...(flag === undefined ? {} : { flag }),
  };
}
