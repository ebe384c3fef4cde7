// Chooses which changes a commit applies: those asked for, without those that are refused or in conflict, and without what cannot
// stand alone then. Pure.
// Invariant: what is chosen can be applied as a whole: no entry without its directory, no removed directory with something left in it.

import { CorralError } from "../api/errors.ts";
import { printable } from "../policy/bytes.ts";
import type { DeltaChange } from "./changes.ts";

export interface Choice {
  readonly chosen: readonly DeltaChange[];
  /** Asked for, but left out because of something else that is left out. */
  readonly dependent: ReadonlyMap<DeltaChange, string>;
}

/**
 * Those of `changes` that `paths` names, all when it is absent. A path names one change; with a `/` at its end, or when no change has
 * it, everything below. Throws `request_invalid` for a path that names nothing.
 */
export function named(changes: readonly DeltaChange[], paths: readonly string[] | undefined): ReadonlySet<DeltaChange> {
  if (paths === undefined) return new Set(changes);
  const found = new Set<DeltaChange>();
  const byPath = new Map(changes.map((change) => [printable(change.path), change]));
  for (const path of paths) {
    const exact = byPath.get(path);
    const prefix = path.endsWith("/") ? path : `${path}/`;
    const below = exact === undefined ? changes.filter((change) => isBelow(change, prefix)) : [exact];
    if (below.length === 0)
      throw new CorralError(
        "request_invalid",
        `paths: nothing changed at ${JSON.stringify(path)}; give a path as the list of changes prints it`,
      );
    for (const change of below) found.add(change);
  }
  return withDirectories(changes, found);
}

function isBelow({ path, from }: DeltaChange, prefix: string): boolean {
  return `${printable(path)}/`.startsWith(prefix) || (from !== undefined && `${printable(from)}/`.startsWith(prefix));
}

/** New directories that the named entries lie in. */
function withDirectories(changes: readonly DeltaChange[], found: Set<DeltaChange>): ReadonlySet<DeltaChange> {
  const makers = new Map(changes.filter(makesDirectory).map((change) => [change.path, change]));
  for (const change of [...found]) {
    if (change.after === undefined) continue;
    for (const dir of ancestors(change.path)) {
      const maker = makers.get(dir);
      if (maker !== undefined) found.add(maker);
    }
  }
  return found;
}

function makesDirectory({ before, after }: DeltaChange): boolean {
  return after?.kind === "dir" && before?.kind !== "dir";
}

function removesDirectory({ before, after }: DeltaChange): boolean {
  return before?.kind === "dir" && after?.kind !== "dir";
}

export function* ancestors(path: string): Generator<string> {
  for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) yield path.slice(0, at);
}

/** `changes` in path order, `asked` of them, `out` left out of those. */
export function choose(changes: readonly DeltaChange[], asked: ReadonlySet<DeltaChange>, out: ReadonlySet<DeltaChange>): Choice {
  const dependent = new Map<DeltaChange, string>();
  const isOut = (change: DeltaChange): boolean => !asked.has(change) || out.has(change) || dependent.has(change);
  const drop = (change: DeltaChange, why: string): void => {
    if (!isOut(change)) dependent.set(change, why);
  };
  // From the top: nothing can be put into a directory that is not made.
  const unmade = new Set<string>();
  for (const change of changes) {
    const missing = change.after === undefined ? undefined : [...ancestors(change.path)].find((dir) => unmade.has(dir));
    if (missing !== undefined) drop(change, `its directory ${printable(missing)} is left out`);
    if (makesDirectory(change) && isOut(change)) unmade.add(change.path);
  }
  // What is left out may have its content in a file of the codebase: that file must stay as it is.
  const needed = new Map<string, string>();
  for (const { path, after } of changes.filter(isOut)) if (after?.source?.root === "base") needed.set(after.source.path, path);
  for (const change of changes) {
    const user = change.kind === "mode" ? undefined : needed.get(change.from ?? change.path);
    if (user !== undefined && user !== change.path) drop(change, `${printable(user)}, which is left out, has its content there`);
  }
  // From the bottom: a directory stays when something that was in it stays.
  const stays = new Map<string, string>();
  const keepAbove = (path: string): void => {
    for (const dir of ancestors(path)) if (!stays.has(dir)) stays.set(dir, path);
  };
  for (const change of changes) if (isOut(change)) for (const path of goneBy(change)) keepAbove(path);
  for (const change of changes.toReversed()) {
    const kept = removesDirectory(change) && !isOut(change) ? stays.get(change.path) : undefined;
    if (kept === undefined) continue;
    drop(change, `${printable(kept)} in it is left out, so the directory stays; to take all below it, write the path with a / at its end`);
    keepAbove(change.path);
  }
  return { chosen: changes.filter((change) => !isOut(change)), dependent };
}

/** Paths that exist no longer once the change is applied. */
function goneBy(change: DeltaChange): readonly string[] {
  if (change.from !== undefined) return [change.from];
  return change.after === undefined || removesDirectory(change) ? [change.path] : [];
}
