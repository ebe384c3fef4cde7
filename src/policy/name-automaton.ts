// All names of a policy's patterns as one machine: which of them match a name is told in one pass over its bytes. Names with
// wildcards are one automaton, names without are looked up. It knows no paths, rules or levels.
// Invariant: the automaton (nodes) is as large as the patterns together; its cache of state sets (states) is bounded, and a name
// costs at most its length times the automaton even when the cache is full. Nothing backtracks.

import { SYMBOL_LIMIT, symbolsOf } from "./bytes.ts";
import { takes, type Atom, type SetAtom } from "./segment.ts";
import { addChild, childAt, createTrie, grown, NONE, type Trie } from "./trie.ts";

/** What a name is to a policy: two names with equal answers cannot be told apart by any rule. */
export interface NameMatch {
  /** Below MAX_MATCHES; -1 when the cache was full: such an answer must not be a key of a cache. */
  readonly id: number;
  /** The number of the name itself when a pattern spells it, else 0. */
  readonly literal: number;
  /** Numbers of the globs that match it. */
  readonly globs: readonly number[];
}

export interface NameAutomaton {
  /** Adds a name without wildcards, as bytes, or one with; returns its number, from 1. Literals and globs are numbered apart. Only before `match`. */
  readonly addLiteral: (name: string) => number;
  readonly addGlob: (atoms: readonly Atom[]) => number;
  /** What `text` from `start` to `end`, a byte string, is. */
  readonly match: (text: string, start: number, end: number) => NameMatch;
  readonly cacheCells: () => number;
}

/** Cells of state sets and rows that may be kept: about 32 MB. */
export const NAME_CACHE_CELLS = 4_000_000;
/** How many different answers may be numbered. */
const MAX_MATCHES = 1 << 20;

/** The edge that `*` leaves by: its child is entered without reading and stays while any character is read. */
const STAR = SYMBOL_LIMIT;
/** Sets and choices are numbered from here, by their spelling. */
const FIRST_NUMBERED = SYMBOL_LIMIT + 1;

interface State {
  /** Ascending in a kept state. */
  readonly nodes: Int32Array;
  /** Its row in the table, or -1: not kept. */
  readonly row: number;
  /** Steps by classes of symbols beyond ASCII. */
  readonly wide: Map<number, State>;
  /** The answer for a name that ends here and is no literal. */
  match: NameMatch | undefined;
}

interface Machine {
  /** A node stands for one way of beginning a name; an edge is a symbol, STAR, or a numbered set or choice. */
  readonly trie: Trie;
  readonly numbers: Map<string, number>;
  /** By number; `undefined` for a choice, whose way leads through its options. */
  readonly sets: (SetAtom | undefined)[];
  readonly columns: Columns;
  readonly literals: Map<string, number>;
  /** 1 where the hash of a literal falls: most names are none, and need not be cut out and looked up to know it. */
  hints: Uint8Array;
  globs: number;
  /** By hash of their nodes. */
  readonly states: Map<number, State[]>;
  readonly rows: State[];
  /** At row * asciiCount + class: the row to go to, plus 1; 0 is not known yet. */
  table: Int32Array;
  readonly matches: Map<string, NameMatch>;
  /** The answer for each literal that was met: a name always ends in the same state. */
  readonly ofLiteral: (NameMatch | undefined)[];
  cells: number;
  /** Nodes found in the step under way; a node is in it when its mark is the stamp. */
  found: Int32Array;
  foundCount: number;
  mark: Uint32Array;
  stamp: number;
  classes: SymbolClasses;
  begun: boolean;
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
  readonly ascii: Int32Array;
  readonly asciiCount: number;
}

export function createNameAutomaton(): NameAutomaton {
  const column = (): Int32Array => new Int32Array(16).fill(NONE);
  const machine: Machine = {
    trie: createTrie(),
    numbers: new Map(),
    sets: [],
    columns: { glob: column(), hasSet: column(), silent: column(), silentTo: column(), silentNext: column(), silentCount: 0 },
    literals: new Map(),
    hints: new Uint8Array(1),
    globs: 0,
    states: new Map(),
    rows: [],
    table: new Int32Array(1024),
    matches: new Map(),
    ofLiteral: [],
    cells: 0,
    found: new Int32Array(0),
    foundCount: 0,
    mark: new Uint32Array(0),
    stamp: 0,
    classes: { starts: [], ascii: new Int32Array(0), asciiCount: 0 },
    begun: false,
  };
  return {
    addLiteral: (name) => addLiteral(machine, name),
    addGlob: (atoms) => addGlob(machine, atoms),
    match: (text, start, end) => match(machine, text, { start, end }),
    cacheCells: () => machine.cells,
  };
}

function addLiteral(machine: Machine, name: string): number {
  const number = machine.literals.get(name) ?? machine.literals.size + 1;
  machine.literals.set(name, number);
  return number;
}

function addGlob(machine: Machine, atoms: readonly Atom[]): number {
  const { columns } = machine;
  const node = addAtoms(machine, atoms, 0);
  if (columns.glob[node] === NONE) columns.glob[node] = ++machine.globs;
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

function match(machine: Machine, text: string, { start, end }: { readonly start: number; readonly end: number }): NameMatch {
  if (!machine.begun) begin(machine);
  const { ascii, asciiCount } = machine.classes;
  let row = 0;
  let hash = 0;
  for (let at = start; at < end; at++) {
    const byte = text.charCodeAt(at);
    if (byte > 0x7f) return matchSlowly(machine, text.slice(start, end));
    hash = Math.imul(hash ^ byte, 0x01000193);
    const symbolClass = ascii[byte] ?? 0;
    let next = machine.table[row * asciiCount + symbolClass] ?? 0;
    if (next === 0) {
      next = advance(machine, rowAt(machine, row), symbolClass).row + 1;
      if (next === 0) return matchSlowly(machine, text.slice(start, end));
    }
    row = next - 1;
  }
  const state = rowAt(machine, row);
  if (machine.hints[slotOf(machine, hash)] === 1) return answer(machine, state, machine.literals.get(text.slice(start, end)) ?? 0);
  return state.match ?? answer(machine, state, 0);
}

/** A name with bytes above 127, or one whose states are not kept. */
function matchSlowly(machine: Machine, name: string): NameMatch {
  let state = rowAt(machine, 0);
  for (const symbol of symbolsOf(name)) state = advance(machine, state, classOf(machine.classes.starts, symbol));
  return answer(machine, state, machine.literals.get(name) ?? 0);
}

function rowAt(machine: Machine, row: number): State {
  const state = machine.rows[row];
  if (state === undefined) throw new RangeError(`row ${row} of ${machine.rows.length}`);
  return state;
}

function slotOf(machine: Machine, hash: number): number {
  return (hash ^ (hash >>> 15)) & (machine.hints.length - 1);
}

function hintAt(machine: Machine, name: string): number {
  let hash = 0;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return slotOf(machine, hash);
}

/** Settles what only the finished automaton can tell: its classes of symbols and the room for marks. */
function begin(machine: Machine): void {
  const { trie } = machine;
  const starts = new Set([0, 0x80]);
  for (let node = 1; node < trie.size; node++) {
    const label = trie.label[node] ?? STAR;
    if (label < SYMBOL_LIMIT) starts.add(label).add(label + 1);
  }
  for (const set of machine.sets) for (const [low, high] of set?.ranges ?? []) starts.add(low).add(high + 1);
  const sorted = [...starts].filter((start) => start < SYMBOL_LIMIT).sort((a, b) => a - b);
  const ascii = Int32Array.from({ length: 0x80 }, (_, byte) => classOf(sorted, byte));
  machine.classes = { starts: sorted, ascii, asciiCount: classOf(sorted, 0x80) };
  machine.mark = new Uint32Array(trie.size);
  machine.found = new Int32Array(trie.size);
  machine.numbers.clear();
  machine.hints = new Uint8Array(2 ** Math.ceil(Math.log2(machine.literals.size * 16 + 1)));
  for (const name of machine.literals.keys()) machine.hints[hintAt(machine, name)] = 1;
  machine.begun = true;
  forget(machine);
  find(machine, 0);
  keep(machine);
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
  const isAscii = symbolClass < machine.classes.asciiCount;
  const cell = state.row * machine.classes.asciiCount + symbolClass;
  const known = state.row === NONE ? undefined : isAscii ? machine.rows[(machine.table[cell] ?? 0) - 1] : state.wide.get(symbolClass);
  if (known !== undefined) return known;
  // Any symbol of the class will do: no pattern tells them apart.
  const symbol = machine.classes.starts[symbolClass] ?? 0;
  const { trie, columns } = machine;
  forget(machine);
  for (const node of state.nodes) {
    if (trie.label[node] === STAR) find(machine, node);
    find(machine, childAt(trie, node, symbol));
    if (columns.hasSet[node] === 1) findBySets(machine, node, symbol);
  }
  const next = keep(machine);
  if (state.row === NONE || next.row === NONE) return next;
  if (isAscii) machine.table[cell] = next.row + 1;
  else if (machine.cells < NAME_CACHE_CELLS) {
    machine.cells += 8;
    state.wide.set(symbolClass, next);
  }
  return next;
}

function forget(machine: Machine): void {
  machine.stamp++;
  machine.foundCount = 0;
}

function find(machine: Machine, node: number): void {
  if (node === NONE || machine.mark[node] === machine.stamp) return;
  machine.mark[node] = machine.stamp;
  machine.found[machine.foundCount++] = node;
}

function findBySets(machine: Machine, node: number, symbol: number): void {
  const { trie, sets } = machine;
  for (let child = trie.first[node] ?? NONE; child !== NONE; child = trie.next[child] ?? NONE) {
    const set = sets[(trie.label[child] ?? 0) - FIRST_NUMBERED];
    if (set !== undefined && takes(set, symbol)) find(machine, child);
  }
}

/** Adds what is reached from the found nodes without reading. */
function findSilent(machine: Machine): void {
  const { trie, columns, found } = machine;
  for (let at = 0; at < machine.foundCount; at++) {
    const node = found[at] ?? 0;
    find(machine, childAt(trie, node, STAR));
    for (let silent = columns.silent[node] ?? NONE; silent !== NONE; silent = columns.silentNext[silent] ?? NONE)
      find(machine, columns.silentTo[silent] ?? NONE);
  }
}

/** The state of the found nodes; a new one is kept while there is room. */
function keep(machine: Machine): State {
  findSilent(machine);
  const nodes = machine.found.slice(0, machine.foundCount);
  const width = machine.classes.asciiCount;
  const cost = nodes.length + width + 32;
  // The first state must be there to begin with, however large the policy is. A state without room is not looked for either:
  // to sort it would cost more than the step.
  if (machine.cells + cost > NAME_CACHE_CELLS && machine.rows.length > 0) return { nodes, row: NONE, wide: new Map(), match: undefined };
  nodes.sort();
  const hash = hashOf(nodes);
  const bucket = machine.states.get(hash) ?? [];
  const known = bucket.find((state) => sameNumbers(state.nodes, nodes));
  if (known !== undefined) return known;
  machine.cells += cost;
  const state: State = { nodes, row: machine.rows.length, wide: new Map(), match: undefined };
  machine.rows.push(state);
  if (machine.rows.length * width > machine.table.length) {
    const wider = new Int32Array(machine.rows.length * width * 2);
    wider.set(machine.table);
    machine.table = wider;
  }
  bucket.push(state);
  machine.states.set(hash, bucket);
  return state;
}

function answer(machine: Machine, state: State, literal: number): NameMatch {
  const cached = literal === 0 ? state.match : machine.ofLiteral[literal];
  if (cached !== undefined) return cached;
  const globs = Array.from(state.nodes, (node) => machine.columns.glob[node] ?? NONE).filter((glob) => glob !== NONE);
  const key = `${literal} ${globs.join(",")}`;
  const known = machine.matches.get(key);
  const cost = globs.length + 16;
  const isFull = machine.matches.size === MAX_MATCHES || machine.cells + cost > NAME_CACHE_CELLS;
  if (known === undefined && isFull) return { id: -1, literal, globs };
  const found = known ?? { id: machine.matches.size, literal, globs };
  if (known === undefined) {
    machine.cells += cost;
    machine.matches.set(key, found);
  }
  if (literal !== 0) machine.ofLiteral[literal] = found;
  else if (state.row !== NONE) state.match = found;
  return found;
}

export function hashOf(numbers: Int32Array): number {
  let hash = 0x811c9dc5;
  for (const number of numbers) hash = Math.imul(hash ^ number, 0x01000193) ^ (hash >>> 17);
  return hash | 0;
}

export function sameNumbers(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((number, index) => number === b[index]);
}
