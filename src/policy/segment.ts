// One name of a pattern: its grammar (`*`, `?`, `[abc]`, `[a-z]`, `[!a]`, `{a,b}`, `\`) and the naive reading of it.
// It knows no `/`, no rules and no levels.
// Invariant: reading and matching take time linear in the pattern times the name; nothing backtracks, nothing is expanded.

import { isAscii, symbolsOf, toBytes } from "./bytes.ts";

/** Something wrong in a pattern; `offset` in UTF-16 units from its start. */
export interface Problem {
  readonly offset: number;
  readonly message: string;
}

/** Inclusive range of symbols. */
export type SymbolRange = readonly [number, number];

export type Atom =
  /** These characters, in this order. */
  | { readonly kind: "text"; readonly symbols: readonly number[] }
  | SetAtom
  /** Any number of characters, none included. */
  | { readonly kind: "star" }
  | { readonly kind: "either"; readonly options: readonly (readonly Atom[])[]; readonly text: string };

/** Exactly one character (or one byte that is no character) out of `ranges`, or outside of them. `text` is its source. */
export interface SetAtom {
  readonly kind: "set";
  readonly negated: boolean;
  readonly ranges: readonly SymbolRange[];
  readonly text: string;
}

export type Segment =
  /** `**`: any number of whole names, none included. */
  | { readonly kind: "deep" }
  /** A name without wildcards, as bytes. */
  | { readonly kind: "literal"; readonly name: string }
  /** A name with wildcards; `text` is its source and identifies it. */
  | { readonly kind: "glob"; readonly atoms: readonly Atom[]; readonly text: string };

const STAR: Atom = Object.freeze({ kind: "star" });
/** Deepest nesting of braces. */
const MAX_NESTING = 16;

interface Cursor {
  readonly text: string;
  at: number;
}

/** Thrown and caught in this file only. */
class Malformed extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/** Reads one name of a pattern. */
export function parseName(text: string): Segment | { readonly problem: Problem } {
  const cursor: Cursor = { text, at: 0 };
  try {
    const atoms = parseAtoms(cursor, 0);
    if (!consumes(atoms)) throw new Malformed(0, "this can only match an empty name, and there is none");
    const name = literalOf(text);
    if (name === "." || name === "..") throw new Malformed(0, `paths hold no \`${name}\`; write the path itself`);
    return name === undefined ? { kind: "glob", atoms, text } : { kind: "literal", name: toBytes(name) };
  } catch (error) {
    if (error instanceof Malformed) return { problem: { offset: error.offset, message: error.message } };
    throw error;
  }
}

/** Whether some way through `atoms` takes a character. */
function consumes(atoms: readonly Atom[]): boolean {
  return atoms.some((atom) => (atom.kind === "either" ? atom.options.some(consumes) : true));
}

/** `text` without its escapes when it holds no wildcard, else `undefined`. */
function literalOf(text: string): string | undefined {
  let name = "";
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if ("*?[{".includes(character)) return undefined;
    if (character === "\\") at++;
    name += text.charAt(at);
  }
  return name;
}

function parseAtoms(cursor: Cursor, depth: number): Atom[] {
  const atoms: Atom[] = [];
  for (let run: number[] | undefined; cursor.at < cursor.text.length; ) {
    const start = cursor.at;
    const character = take(cursor);
    if (depth > 0 && (character === "," || character === "}")) {
      cursor.at = start;
      return atoms;
    }
    const special = specialAtom(cursor, { character, start, depth });
    if (special?.kind === "star" && atoms.at(-1)?.kind === "star") {
      throw new Malformed(start - 1, "`**` must be a whole name: write `/**/` around it, or one `*` for a part of a name");
    }
    if (special !== undefined) {
      run = undefined;
      atoms.push(special);
      continue;
    }
    if (run === undefined) {
      run = [];
      atoms.push({ kind: "text", symbols: run });
    }
    run.push(literalSymbol(cursor, character, start));
  }
  return atoms;
}

function specialAtom(cursor: Cursor, at: { readonly character: string; readonly start: number; readonly depth: number }): Atom | undefined {
  switch (at.character) {
    case "*":
      return STAR;
    case "?":
      return { kind: "set", negated: true, ranges: [], text: "?" };
    case "[":
      return parseSet(cursor, at.start);
    case "{":
      return parseEither(cursor, at.start, at.depth + 1);
    case "]":
    case "}":
      throw new Malformed(at.start, `\`${at.character}\` closes nothing; a literal one is \`\\${at.character}\``);
    default:
      return undefined;
  }
}

function literalSymbol(cursor: Cursor, character: string, start: number): number {
  if (character !== "\\") return character.codePointAt(0) ?? 0;
  if (cursor.at >= cursor.text.length)
    throw new Malformed(start, "`\\` escapes the character after it, and none follows; a name cannot hold `/`");
  return take(cursor).codePointAt(0) ?? 0;
}

function parseSet(cursor: Cursor, open: number): Atom {
  const unclosed = new Malformed(open, "`[` is not closed within the name; a literal one is `\\[`");
  const first = cursor.text.charAt(cursor.at);
  const negated = first === "!";
  if (negated) cursor.at++;
  if (first === "^") throw new Malformed(cursor.at, "a set is negated by `[!`; a literal `^` is `\\^`");
  if (cursor.text.charAt(cursor.at) === "]") throw new Malformed(open, "the set is empty; a literal `]` in it is `\\]`");
  const ranges: SymbolRange[] = [];
  for (;;) {
    const start = cursor.at;
    const low = setSymbol(cursor, unclosed);
    if (low === undefined) return { kind: "set", negated, ranges, text: cursor.text.slice(open, cursor.at) };
    const isRange = cursor.text.charAt(cursor.at) === "-" && cursor.text.charAt(cursor.at + 1) !== "]";
    if (isRange) cursor.at++;
    const high = isRange ? setSymbol(cursor, unclosed) : low;
    if (high === undefined || high < low) throw new Malformed(start, "the range is reversed and matches nothing");
    ranges.push([low, high]);
  }
}

/** The next member of a set, or `undefined` at its `]`. */
function setSymbol(cursor: Cursor, unclosed: Malformed): number | undefined {
  if (cursor.at >= cursor.text.length) throw unclosed;
  const start = cursor.at;
  const character = take(cursor);
  if (character === "]") return undefined;
  if (character === "[" && ":.=".includes(cursor.text.charAt(cursor.at) || " ")) {
    throw new Malformed(start, "there are no named classes such as `[:alpha:]`; write the range, a literal `[` is `\\[`");
  }
  if (character === "\\" && cursor.at >= cursor.text.length) throw unclosed;
  return literalSymbol(cursor, character, start);
}

function parseEither(cursor: Cursor, open: number, depth: number): Atom {
  if (depth > MAX_NESTING) throw new Malformed(open, `braces nest deeper than ${MAX_NESTING}`);
  const options: Atom[][] = [];
  for (;;) {
    options.push(parseAtoms(cursor, depth));
    if (cursor.at >= cursor.text.length) throw new Malformed(open, "`{` is not closed within the name; a literal one is `\\{`");
    if (take(cursor) === "}") break;
  }
  if (options.length === 1) throw new Malformed(open, "`{}` needs two choices, `{a,b}`; a literal brace is `\\{`");
  return { kind: "either", options, text: cursor.text.slice(open, cursor.at) };
}

/** Takes one character (both halves of a surrogate pair). */
function take(cursor: Cursor): string {
  const character = String.fromCodePoint(cursor.text.codePointAt(cursor.at) ?? 0);
  cursor.at += character.length;
  return character;
}

/** Whether `segment` (not `deep`) matches the whole of `name`, a byte string. The naive reading: a set of places, moved atom by atom. */
export function matchesName(segment: Segment, name: string): boolean {
  if (segment.kind === "deep") return true;
  if (segment.kind === "literal") return segment.name === name;
  const symbols = isAscii(name) ? Array.from(name, (character) => character.charCodeAt(0)) : symbolsOf(name);
  return placesAfter(segment.atoms, symbols, new Set([0])).has(symbols.length);
}

/** Where in `symbols` the atoms can end when they begin at one of `places`. */
function placesAfter(atoms: readonly Atom[], symbols: readonly number[], places: ReadonlySet<number>): ReadonlySet<number> {
  return atoms.reduce<ReadonlySet<number>>((from, atom) => {
    const to = new Set<number>();
    if (atom.kind === "star") {
      for (let place = Math.min(...from, symbols.length + 1); place <= symbols.length; place++) to.add(place);
      return to;
    }
    if (atom.kind === "either") {
      for (const option of atom.options) for (const place of placesAfter(option, symbols, from)) to.add(place);
      return to;
    }
    for (const place of from) {
      const length = atom.kind === "set" ? 1 : atom.symbols.length;
      const taken = symbols.slice(place, place + length);
      const fits =
        atom.kind === "set"
          ? taken.some((symbol) => takes(atom, symbol))
          : taken.length === length && taken.every((symbol, i) => symbol === atom.symbols[i]);
      if (fits) to.add(place + length);
    }
    return to;
  }, places);
}

/** Whether a set takes `symbol`. */
export function takes(atom: SetAtom, symbol: number): boolean {
  return atom.ranges.some(([low, high]) => low <= symbol && symbol <= high) !== atom.negated;
}
