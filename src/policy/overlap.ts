// Compares patterns with each other: does one match all that another matches, can both match one path. For lint and for the
// choice of an engine; no verdict depends on it.
// Invariant: `includes` says yes only when it is certain, `mayMeet` says no only when it is certain. Both look at one pair of
// rules and at no path, and give up (no, yes) after a bounded number of steps.

import type { ReadRule } from "./rules.ts";
import { trimmed } from "./rules.ts";
import { matchesName, type Atom, type Segment } from "./segment.ts";

type Shape = Pick<ReadRule, "covers" | "pattern">;

/** Steps after which a comparison gives up. Ordinary patterns need a few dozen. */
const MAX_STEPS = 5_000;

/** What comparisons may still take together, in names looked at; below zero they give up. */
export interface Work {
  left: number;
}

/** Whether every path that `inner` matches or covers is matched or covered by `outer`. */
export function includes(outer: Shape, inner: Shape, work?: Work): boolean {
  const out = trimmed(outer);
  const within = trimmed(inner);
  // At the end of `inner` it is enough that `outer` ends too, when it says as much there.
  const endSuffices = (outer.covers || !inner.covers) && (!outer.pattern.dirOnly || inner.pattern.dirOnly);
  const todo: [number, readonly number[]][] = [[0, entered(out, [0])]];
  const seen = new Set<string>();
  for (let steps = 0; ; steps++) {
    const next = todo.pop();
    if (next === undefined) return true;
    const [at, places] = next;
    const key = `${at} ${places.join(",")}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (work !== undefined) work.left -= places.length + 1;
    if (places.length === 0 || steps > MAX_STEPS || (work?.left ?? 0) < 0) return false;
    const isEnded = places.includes(out.length);
    const segment = within[at];
    if (segment === undefined) {
      if (!isEnded || !endSuffices) return false;
      continue;
    }
    // A directory on the way that `outer` covers with all below: whatever `inner` still asks for is covered.
    if (isEnded && outer.covers && segment.kind !== "deep") continue;
    if (segment.kind === "deep") {
      if (isEnded && outer.covers && endSuffices) continue;
      todo.push([at + 1, places], [at, moved(out, places, undefined)]);
    } else todo.push([at + 1, moved(out, places, segment)]);
  }
}

/** Places in `out` after one name: any name, or any that `segment` matches. */
function moved(out: readonly Segment[], places: readonly number[], segment: Segment | undefined): readonly number[] {
  const next = places.flatMap((place) => {
    const own = out[place];
    if (own === undefined) return [];
    if (own.kind === "deep") return [place];
    return nameIncludes(own, segment) ? [place + 1] : [];
  });
  return entered(out, next);
}

function entered(out: readonly Segment[], places: readonly number[]): readonly number[] {
  const all = new Set(places);
  for (const place of all) if (out[place]?.kind === "deep") all.add(place + 1);
  return [...all].sort((a, b) => a - b);
}

/** Whether `outer` certainly matches every name that `inner` matches; `undefined` stands for any name at all. */
function nameIncludes(outer: Segment, inner: Segment | undefined): boolean {
  if (outer.kind !== "glob") return outer.kind === "literal" && inner?.kind === "literal" && outer.name === inner.name;
  const [first, second, third] = outer.atoms;
  if (first?.kind === "star" && second === undefined) return true;
  if (inner?.kind === "literal") return matchesName(outer, inner.name);
  if (inner?.kind !== "glob") return false;
  if (outer.text === inner.text) return true;
  if (third !== undefined) return false;
  if (first?.kind === "star" && second?.kind === "text") return endsWith(inner.atoms.at(-1), second.symbols);
  return first?.kind === "text" && second?.kind === "star" && startsWith(inner.atoms[0], first.symbols);
}

function endsWith(atom: Atom | undefined, symbols: readonly number[]): boolean {
  return (
    atom?.kind === "text" &&
    symbols.length <= atom.symbols.length &&
    symbols.every((symbol, i) => atom.symbols[atom.symbols.length - symbols.length + i] === symbol)
  );
}

function startsWith(atom: Atom | undefined, symbols: readonly number[]): boolean {
  return atom?.kind === "text" && symbols.length <= atom.symbols.length && symbols.every((symbol, i) => atom.symbols[i] === symbol);
}

/** Whether some path that `segments` matches could be one that `rule` matches or covers. */
export function mayMeet(rule: Shape, segments: readonly Segment[]): boolean {
  const own = trimmed(rule);
  const todo: [number, number][] = [[0, 0]];
  const seen = new Set<number>();
  for (let steps = 0; ; steps++) {
    const next = todo.pop();
    if (next === undefined) return false;
    const [a, b] = next;
    const key = a * (segments.length + 1) + b;
    if (seen.has(key)) continue;
    seen.add(key);
    const left = own[a];
    const right = segments[b];
    if (steps > MAX_STEPS || (left === undefined && (rule.covers || right === undefined))) return true;
    if (left?.kind === "deep") todo.push([a + 1, b]);
    if (right?.kind === "deep") todo.push([a, b + 1]);
    if (left === undefined || right === undefined || !nameMayMeet(left, right)) continue;
    todo.push([left.kind === "deep" ? a : a + 1, right.kind === "deep" ? b : b + 1]);
  }
}

function nameMayMeet(a: Segment, b: Segment): boolean {
  if (a.kind === "literal") return matchesName(b, a.name);
  return b.kind === "literal" ? matchesName(a, b.name) : true;
}
