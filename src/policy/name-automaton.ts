// All names-with-wildcards of a policy as one automaton: which of them match a name is told in one pass over its bytes.
// It knows no paths, rules or levels. Names without wildcards are not in it (compile.ts looks those up).
// Invariant: the automaton (nodes) is as large as the patterns together; its cache of state sets (states) is bounded, and a name
// costs at most its length times the automaton even when the cache is full. Nothing backtracks.

import { SYMBOL_LIMIT, symbolsOf } from "./bytes.ts";
import { takes, type Atom, type SetAtom } from "./segment.ts";
import { addChild, childAt, createTrie, grown, NONE, type Trie } from "./trie.ts";

/** Names that a set of globs matches alike. `id` is -1 when the cache was full: such an answer must not be a key of a cache. */
export interface GlobMatch {
  readonly id: number;
  readonly globs: readonly number[];
}

export interface NameAutomaton {
  /** Adds a glob and returns its number; the same atoms give the same number. Only before the first `matchName`. */
  readonly add: (atoms: readonly Atom[]) => number;
  /** Which globs match the whole of `name`, a byte string. */
  readonly matchName: (name: string) => GlobMatch;
}

/** Cells of state sets and rows that may be kept: about 32 MB. */
const CACHE_CELLS = 4_000_000;
/** How many different answers may be numbered. compile.ts packs the number into a key. */
export const MAX_MATCHES = 1 << 20;

/** The edge that `*` leaves by: its child is entered without reading and stays while any character is read. */
const STAR = SYMBOL_LIMIT;
/** Sets and choices are numbered from here, by their spelling. */
const FIRST_NUMBERED = SYMBOL_LIMIT + 1;

interface State {
  readonly nodes: readonly number[];
  /** By symbol class. Absent in a state that is not kept. */
  readonly next: Map<number, State> | undefined;
  /** The same for the classes of ASCII, which is what names are made of. */
  readonly row: (State | undefined)[] | undefined;
  match: GlobMatch | undefined;
}

interface Machine {
  /** A node stands for one way of beginning a name; an edge is a symbol, STAR, or a numbered set or choice. */
  readonly trie: Trie;
  readonly numbers: Map<string, number>;
  /** By number; `undefined` for a choice, whose way leads through its options. */
  readonly sets: (SetAtom | undefined)[];
  readonly columns: Columns;
  globs: number;
  readonly states: Map<number, State[]>;
  readonly matches: Map<string, GlobMatch>;
  cells: number;
  mark: Uint32Array;
  stamp: number;
  classes: SymbolClasses;
  start: State | undefined;
}

/** What a node has besides its edges. Linked lists in columns, as in trie.ts and for the same reason. */
interface Columns {
  /** The glob that ends here. */
  glob: Int32Array;
  /** 1 when an edge is a set. */
  hasSet: Int32Array;
  /** The first silent edge: the ends of a choice's options lead to the choice's end without reading. */
  silent: Int32Array;
  silentTo: Int32Array;
  silentNext: Int32Array;
  silentCount: number;
}

interface SymbolClasses {
  /** Where a new class begins, ascending. Symbols of one class are told apart by no pattern. */
  readonly starts: readonly number[];
  readonly ascii: readonly number[];
  readonly asciiCount: number;
}

export function createNameAutomaton(): NameAutomaton {
  const column = (): Int32Array => new Int32Array(16).fill(NONE);
  const machine: Machine = {
    trie: createTrie(),
    numbers: new Map(),
    sets: [],
    columns: { glob: column(), hasSet: column(), silent: column(), silentTo: column(), silentNext: column(), silentCount: 0 },
    globs: 0,
    states: new Map(),
    matches: new Map(),
    cells: 0,
    mark: new Uint32Array(0),
    stamp: 0,
    classes: { starts: [], ascii: [], asciiCount: 0 },
    start: undefined,
  };
  return { add: (atoms) => addGlob(machine, atoms), matchName: (name) => matchName(machine, name) };
}

function addGlob(machine: Machine, atoms: readonly Atom[]): number {
  const { columns } = machine;
  const node = addAtoms(machine, atoms, 0);
  if (columns.glob[node] === NONE) columns.glob[node] = machine.globs++;
  return columns.glob[node] ?? NONE;
}

/** The node where `atoms`, read from `from`, end. Equal beginnings share nodes; a node has one way of beginning, so none are mixed. */
function addAtoms(machine: Machine, atoms: readonly Atom[], from: number): number {
  return atoms.reduce((at, atom) => addAtom(machine, atom, at), from);
}

function addAtom(machine: Machine, atom: Atom, from: number): number {
  if (atom.kind === "text") return atom.symbols.reduce((at, symbol) => addNode(machine, at, symbol), from);
  if (atom.kind === "star") return addNode(machine, from, STAR);
  const label = numberOf(machine, atom);
  if (atom.kind === "set") {
    const to = addNode(machine, from, label);
    machine.columns.hasSet[from] = 1;
    return to;
  }
  const known = childAt(machine.trie, from, label);
  if (known !== NONE) return known;
  const to = addNode(machine, from, label);
  for (const option of atom.options) addSilent(machine.columns, addAtoms(machine, option, from), to);
  return to;
}

function numberOf(machine: Machine, atom: Extract<Atom, { kind: "set" | "either" }>): number {
  const known = machine.numbers.get(atom.text);
  if (known !== undefined) return FIRST_NUMBERED + known;
  const number = machine.sets.push(atom.kind === "set" ? atom : undefined) - 1;
  machine.numbers.set(atom.text, number);
  return FIRST_NUMBERED + number;
}

function addNode(machine: Machine, from: number, label: number): number {
  const node = addChild(machine.trie, from, label);
  const { columns } = machine;
  if (node >= columns.glob.length) {
    columns.glob = grown(columns.glob);
    columns.hasSet = grown(columns.hasSet);
    columns.silent = grown(columns.silent);
  }
  return node;
}

function addSilent(columns: Columns, from: number, to: number): void {
  const first = columns.silent[from] ?? NONE;
  if (first !== NONE && columns.silentTo[first] === to) return;
  if (columns.silentCount === columns.silentTo.length) {
    columns.silentTo = grown(columns.silentTo);
    columns.silentNext = grown(columns.silentNext);
  }
  columns.silentTo[columns.silentCount] = to;
  columns.silentNext[columns.silentCount] = first;
  columns.silent[from] = columns.silentCount++;
}

function matchName(machine: Machine, name: string): GlobMatch {
  let state = (machine.start ??= begin(machine));
  const { ascii } = machine.classes;
  for (let at = 0; at < name.length; at++) {
    const byte = name.charCodeAt(at);
    const symbolClass = ascii[byte];
    if (symbolClass === undefined) return matchSymbols(machine, name);
    state = state.row?.[symbolClass] ?? advance(machine, state, symbolClass);
    if (state.nodes.length === 0) break;
  }
  return state.match ?? matchOf(machine, state);
}

/** As `matchName`, for a name with bytes above 127. */
function matchSymbols(machine: Machine, name: string): GlobMatch {
  let state = (machine.start ??= begin(machine));
  for (const symbol of symbolsOf(name)) state = advance(machine, state, classOf(machine.classes.starts, symbol));
  return state.match ?? matchOf(machine, state);
}

/** Settles what only the finished automaton can tell: its classes of symbols and the room for marks. */
function begin(machine: Machine): State {
  const { trie } = machine;
  const starts = new Set([0, 0x80]);
  for (let node = 1; node < trie.size; node++) {
    const label = trie.label[node] ?? STAR;
    if (label < SYMBOL_LIMIT) starts.add(label).add(label + 1);
  }
  for (const set of machine.sets) for (const [low, high] of set?.ranges ?? []) starts.add(low).add(high + 1);
  const sorted = [...starts].filter((start) => start < SYMBOL_LIMIT).sort((a, b) => a - b);
  const ascii = Array.from({ length: 0x80 }, (_, byte) => classOf(sorted, byte));
  machine.classes = { starts: sorted, ascii, asciiCount: classOf(sorted, 0x80) };
  machine.mark = new Uint32Array(trie.size);
  machine.numbers.clear();
  return keep(machine, closure(machine, [0]));
}

/** The index of the last class that begins at or below `symbol`. */
function classOf(starts: readonly number[], symbol: number): number {
  let low = 0;
  for (let high = starts.length; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if ((starts[middle] ?? 0) <= symbol) low = middle;
    else high = middle;
  }
  return low;
}

function advance(machine: Machine, state: State, symbolClass: number): State {
  const known = state.next?.get(symbolClass);
  if (known !== undefined) return known;
  // Any symbol of the class will do: no pattern tells them apart.
  const symbol = machine.classes.starts[symbolClass] ?? 0;
  const { trie, columns } = machine;
  const reached: number[] = [];
  for (const node of state.nodes) {
    if (trie.label[node] === STAR) reached.push(node);
    const to = childAt(trie, node, symbol);
    if (to !== NONE) reached.push(to);
    if (columns.hasSet[node] === 1) reachedBySets(machine, node, { symbol, reached });
  }
  const next = keep(machine, closure(machine, reached));
  if (state.next !== undefined && next.next !== undefined && machine.cells < CACHE_CELLS) {
    machine.cells += 4;
    if (symbolClass < machine.classes.asciiCount && state.row !== undefined) state.row[symbolClass] = next;
    state.next.set(symbolClass, next);
  }
  return next;
}

function reachedBySets(machine: Machine, node: number, at: { readonly symbol: number; readonly reached: number[] }): void {
  const { trie, sets } = machine;
  for (let child = trie.first[node] ?? NONE; child !== NONE; child = trie.next[child] ?? NONE) {
    const set = sets[(trie.label[child] ?? 0) - FIRST_NUMBERED];
    if (set !== undefined && takes(set, at.symbol)) at.reached.push(child);
  }
}

/** `nodes` and all that is reached from them without reading; each once. */
function closure(machine: Machine, nodes: number[]): number[] {
  const { trie, columns, mark } = machine;
  const stamp = ++machine.stamp;
  const found: number[] = [];
  // Grows while it is walked: what is reached silently is closed over in turn.
  for (const node of nodes) {
    if (mark[node] === stamp) continue;
    mark[node] = stamp;
    found.push(node);
    const star = childAt(trie, node, STAR);
    if (star !== NONE) nodes.push(star);
    for (let silent = columns.silent[node] ?? NONE; silent !== NONE; silent = columns.silentNext[silent] ?? NONE) nodes.push(columns.silentTo[silent] ?? NONE);
  }
  return found.sort((a, b) => a - b);
}

/** The kept state of these nodes; a new one is kept while there is room. */
function keep(machine: Machine, nodes: number[]): State {
  const hash = hashOf(nodes);
  const bucket = machine.states.get(hash) ?? [];
  const known = bucket.find((state) => sameNumbers(state.nodes, nodes));
  if (known !== undefined) return known;
  const cost = nodes.length + machine.classes.asciiCount + 32;
  if (machine.cells + cost > CACHE_CELLS) return { nodes, next: undefined, row: undefined, match: undefined };
  machine.cells += cost;
  const state: State = { nodes, next: new Map(), row: new Array<State | undefined>(machine.classes.asciiCount).fill(undefined), match: undefined };
  machine.states.set(hash, [...bucket, state]);
  return state;
}

function matchOf(machine: Machine, state: State): GlobMatch {
  const globs = state.nodes.map((node) => machine.columns.glob[node] ?? NONE).filter((glob) => glob !== NONE);
  if (state.next === undefined) return { id: -1, globs };
  const key = globs.join(",");
  const match = machine.matches.get(key) ?? { id: machine.matches.size < MAX_MATCHES ? machine.matches.size : -1, globs };
  if (match.id !== -1) machine.matches.set(key, match);
  state.match = match;
  return match;
}

export function hashOf(numbers: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const number of numbers) hash = Math.imul(hash ^ number, 0x01000193);
  return hash | 0;
}

export function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((number, index) => number === b[index]);
}
