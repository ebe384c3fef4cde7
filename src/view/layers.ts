// Frozen layers: what sandboxes wrote up to a snapshot, read-only from then on and shared by whoever stands on them.
//
//   <deltas>/layers/<layer>/tree         the layer; absent: it is empty, or still its delta's upper directory, which then means the same
//   <deltas>/layers/<layer>/size.json    what the tree takes on disk; absent: it is not known yet, and counts as nothing
//   <deltas>/layers/<layer>/refs/<id>    an empty file for each sandbox or snapshot that stands on it
//   <deltas>/layers/.<layer>.<id>        one that is being made, empty, for the sandbox or snapshot that will stand on it
//
// It reads no layer and decides nothing. Invariant: a layer with a reference is not removed, and one without cannot be referred to: the
// removal of the last name in `refs` and of `refs` itself is what the file system makes of two that race.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { ID_BODY_LENGTH, ID_PREFIX, isId } from "../api/ids.ts";
import { writeFileAtomic } from "../base/atomic-file.ts";
import { randomText } from "../base/random-text.ts";
import { deltaDir } from "./kept.ts";
import type { RunTool } from "./view.ts";

const DIR = "layers";

export interface LayerSize {
  readonly bytes: number;
  readonly entries: number;
}

/** Where a layer lies, from `deltas`. */
function layerPath(layer: string): string {
  // SAFETY: the id is joined to a path; one that is spelled like an id cannot climb.
  if (!isId("layer", layer)) throw new CorralError("delta_malformed", `${JSON.stringify(layer)} names no layer; discard the delta`);
  return join(DIR, layer);
}

export function layerTree(deltas: string, layer: string): string {
  return join(deltas, layerPath(layer), "tree");
}

/** A new, empty one to which `owner` refers. */
export function addLayer(deltas: string, owner: string): string {
  const layer = `${ID_PREFIX.layer}${randomText(ID_BODY_LENGTH)}`;
  const draft = join(deltas, DIR, `.${layer}.${owner}`);
  mkdirSync(join(draft, "refs"), { recursive: true, mode: 0o700 });
  writeFileSync(join(draft, "refs", owner), "");
  renameSync(draft, join(deltas, layerPath(layer)));
  return layer;
}

export function writeLayerSize(deltas: string, layer: string, { bytes, entries }: LayerSize): void {
  writeFileAtomic(join(deltas, layerPath(layer), "size.json"), JSON.stringify({ bytes, entries }));
}

/** `undefined`: it was not measured yet. */
function layerSize(deltas: string, layer: string): LayerSize | undefined {
  try {
    return JSON.parse(readFileSync(join(deltas, layerPath(layer), "size.json"), "utf8")) as LayerSize;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

export function isMeasured(deltas: string, layer: string): boolean {
  return layerSize(deltas, layer) !== undefined;
}

/** Of all of them together. */
export function sizeOf(deltas: string, layers: readonly string[]): LayerSize {
  const sizes = layers.map((layer) => layerSize(deltas, layer) ?? { bytes: 0, entries: 0 });
  return sizes.reduce((sum, { bytes, entries }) => ({ bytes: sum.bytes + bytes, entries: sum.entries + entries }), {
    bytes: 0,
    entries: 0,
  });
}

/** Throws `snapshot_not_found` when one of them is gone. */
export function referTo(deltas: string, layers: readonly string[], owner: string): void {
  for (const layer of layers) {
    try {
      writeFileSync(join(deltas, layerPath(layer), "refs", owner), "");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
      throw new CorralError("snapshot_not_found", "what was to be made stands on a snapshot that was deleted meanwhile", { cause });
    }
  }
}

/** Removes those to which nobody refers any more. Idempotent. */
export async function letGo(tool: RunTool, deltas: string, layers: readonly string[], owner: string): Promise<void> {
  for (const layer of layers) {
    const path = join(deltas, layerPath(layer));
    rmSync(join(path, "refs", owner), { force: true });
    try {
      rmdirSync(join(path, "refs"));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOTEMPTY" || code === "EEXIST") continue;
      if (code !== "ENOENT" || !existsSync(path)) continue;
    }
    await tool(["remove", path]).done;
  }
}

/** The layers that hold something, absolute, topmost first. Throws `delta_malformed` when one is gone. */
export function layerTrees(deltas: string, layers: readonly string[]): readonly string[] {
  return partsBelow(deltas, layers).map((part) => join(deltas, part));
}

/** The layers of a delta from `deltas`, its own first; `undefined`: its own is the only one. */
export function partsOf(deltas: string, sandboxId: string, layers: readonly string[] = []): readonly string[] | undefined {
  const below = partsBelow(deltas, layers);
  if (below.length === 0) return undefined;
  return existsSync(deltaDir(deltas, sandboxId).upper) ? [join(sandboxId, "upper"), ...below] : below;
}

function partsBelow(deltas: string, layers: readonly string[]): readonly string[] {
  return layers.flatMap((layer) => {
    const path = layerPath(layer);
    if (!existsSync(join(deltas, path)))
      throw new CorralError("delta_malformed", "the delta stands on a snapshot that is gone; discard the delta");
    return existsSync(join(deltas, path, "tree")) ? [join(path, "tree")] : [];
  });
}

/** Layers and who refers to them although gone, or nobody: left by a process that was killed. */
export function staleLayers(
  deltas: string,
  isOwner: (id: string) => boolean,
): readonly { readonly layer: string; readonly owner: string }[] {
  if (!existsSync(join(deltas, DIR))) return [];
  return readdirSync(join(deltas, DIR)).flatMap((layer) => {
    if (!isId("layer", layer)) return [];
    const refs = join(deltas, layerPath(layer), "refs");
    const owners = existsSync(refs) ? readdirSync(refs) : [];
    if (owners.length === 0) return [{ layer, owner: "nobody" }];
    return owners.filter((owner) => !isOwner(owner)).map((owner) => ({ layer, owner }));
  });
}

/** Layers that were being made for somebody who is gone, absolute: likewise. */
export function staleDrafts(deltas: string, isOwner: (id: string) => boolean): readonly string[] {
  if (!existsSync(join(deltas, DIR))) return [];
  const drafts = readdirSync(join(deltas, DIR)).filter((name) => name.startsWith("."));
  return drafts.filter((name) => !isOwner(name.split(".")[2] ?? "")).map((name) => join(deltas, DIR, name));
}
