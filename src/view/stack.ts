// A delta of several layers - what a sandbox wrote over frozen ones - as the one layer that would mean the same. Overlayfs's rules again,
// between two layers that both hold marks: a mark of the upper one leads into the lower one and, where that has nothing, on to what lies
// below both. Pure but for reading the layers. Invariant: the whole over any base is what the layers over it are; each leaf tells where its
// content lies, and a mark that leads to what the layer below never showed is refused.

import { CorralError } from "../api/errors.ts";
import { printable } from "../policy/bytes.ts";
import { lowerOf, redirected } from "./merge.ts";
import { readUpper, type UpperDir, type UpperItem } from "./upper.ts";
import type { RunTool } from "./view.ts";

type Leaf = Extract<UpperItem, { is: "leaf" }>;

export interface DeltaPlace {
  readonly tool: RunTool;
  /** The layer, or with `parts` the directory that they lie in. */
  readonly upper: string;
  /** Directories of the layers below `upper`, topmost first, at least one; absent: `upper` is the only layer. */
  readonly parts?: readonly string[];
  /** Form of the overlay marks. */
  readonly trusted: boolean;
}

export async function readDelta({ tool, upper, parts, trusted }: DeltaPlace): Promise<UpperDir> {
  if (parts === undefined) return await readUpper(tool, upper, trusted);
  let whole: UpperDir | undefined;
  for (const part of parts) {
    const layer = placed(await readUpper(tool, `${upper}/${part}`, trusted), `/${part}`);
    whole = whole === undefined ? layer : over(whole, layer);
  }
  if (whole === undefined) throw new CorralError("internal", "a delta without layers was read");
  return whole;
}

/** Each leaf names its content from the directory that holds all layers. */
function placed(dir: UpperDir, prefix: string): UpperDir {
  const items = dir.items.map((item): UpperItem => {
    if (item.is === "dir") return { ...item, dir: placed(item.dir, prefix) };
    return item.is === "leaf" ? { ...item, place: `${prefix}${dir.path}/${item.name}` } : item;
  });
  return { ...dir, items };
}

/** One layer that means what `upper` over `lower` means. */
export function over(upper: UpperDir, lower: UpperDir): UpperDir {
  return new Stack(lower).dir(upper, { own: lower, rest: "" }, { path: "", natural: "" });
}

/** What lies below a directory of the upper layer: a directory of the lower one, and the path in what is below both that shows through. */
interface Below {
  readonly own?: UpperDir;
  readonly rest?: string;
}

/** `leaf` with the path below both that its directory shows; `undefined`: nothing that can be there. */
type Found = Below | { readonly leaf: Leaf; readonly dirRest: string | undefined } | undefined;

interface Spot {
  /** In the merged view. */
  readonly path: string;
  /** Where a directory of that name would show through without a mark. */
  readonly natural: string | undefined;
}

class Stack {
  readonly #root: Below;
  readonly #names = new WeakMap<UpperDir, ReadonlyMap<string, UpperItem>>();

  constructor(lower: UpperDir) {
    this.#root = { own: lower, rest: "" };
  }

  dir(upper: UpperDir, below: Below, { path, natural }: Spot): UpperDir {
    const { own, rest } = below;
    const named = new Set(upper.items.map(({ name }) => name));
    const items = upper.items.map((item) => this.#item(item, below, path));
    for (const item of own?.items ?? []) if (!named.has(item.name)) items.push(moved(item, path));
    return {
      entry: upper.entry,
      path,
      opaque: rest === undefined,
      ...(rest === undefined || rest === natural ? {} : { redirect: rest }),
      items,
    };
  }

  #item(item: UpperItem, below: Below, dirPath: string): UpperItem {
    const path = `${dirPath}/${item.name}`;
    const natural = below.rest === undefined ? undefined : `${below.rest}/${item.name}`;
    if (item.is === "whiteout") return item;
    if (item.is === "leaf") return item.metacopy ? this.#metacopy(item, below, { path, natural }) : item;
    const found = item.dir.opaque ? undefined : this.#lead(item.dir.redirect ?? item.name, below);
    const isDir = found !== undefined && !("leaf" in found);
    // Without a mark, a file or a deletion below is only hidden; a mark was written when a directory was there.
    if (!isDir && !item.dir.opaque && item.dir.redirect !== undefined) throw unreal(path);
    return { ...item, dir: this.dir(item.dir, isDir ? found : {}, { path, natural }) };
  }

  /** Its data is the lower layer's, or lies below both: then the mark says where. */
  #metacopy(item: Leaf, below: Below, { path, natural }: Spot): Leaf {
    const { redirect, ...rest } = item;
    const found = this.#lead(redirect ?? item.name, below);
    if (found === undefined || ("own" in found && found.own !== undefined)) throw unreal(path);
    if (!("leaf" in found)) return led(rest, found.rest, natural, path);
    const { leaf, dirRest } = found;
    if (leaf.metacopy) return led(rest, redirected(leaf.redirect ?? leaf.name, dirRest), natural, path);
    if (leaf.place === undefined) throw new CorralError("internal", "a leaf of a layer has no place");
    return { ...rest, metacopy: false, place: leaf.place, data: leaf.data ?? leaf.entry };
  }

  /** Where a mark or a plain name leads from a directory. */
  #lead(mark: string, below: Below): Found {
    if (!mark.startsWith("/")) return this.#child(below, mark);
    let at: Found = this.#root;
    for (const name of mark.slice(1).split("/")) {
      if (at === undefined || "leaf" in at) return undefined;
      at = this.#child(at, name);
    }
    return at;
  }

  #child({ own, rest }: Below, name: string): Found {
    const item = own === undefined ? undefined : this.#named(own).get(name);
    if (item === undefined) return rest === undefined ? undefined : { rest: `${rest}/${name}` };
    if (item.is === "whiteout") return undefined;
    if (item.is === "leaf") return { leaf: item, dirRest: rest };
    const through = lowerOf(item.dir, rest);
    return { own: item.dir, ...(through === undefined ? {} : { rest: through }) };
  }

  #named(dir: UpperDir): ReadonlyMap<string, UpperItem> {
    const known = this.#names.get(dir);
    if (known !== undefined) return known;
    const names = new Map(dir.items.map((item) => [item.name, item]));
    this.#names.set(dir, names);
    return names;
  }
}

function led(item: Omit<Leaf, "redirect">, origin: string | undefined, natural: string | undefined, path: string): Leaf {
  if (origin === undefined) throw unreal(path);
  return origin === natural ? item : { ...item, redirect: origin };
}

/** An entry of the lower layer at its place in the merged view; its marks say the same there, since its directory shows the same. */
function moved(item: UpperItem, dirPath: string): UpperItem {
  const path = `${dirPath}/${item.name}`;
  if (item.is !== "dir" || item.dir.path === path) return item;
  return { ...item, dir: { ...item.dir, path, items: item.dir.items.map((below) => moved(below, path)) } };
}

function unreal(path: string): CorralError {
  return new CorralError(
    "delta_malformed",
    `${printable(path)} of the delta points to something that its sandbox never saw; the delta was forged or damaged`,
  );
}
