// A tree whose edges carry numbers, in flat columns: about 24 bytes a node, whatever the fan-out. Objects and maps would cost
// some hundred, and a large policy has millions of nodes. Nodes are only added; node 0 is the root.
// Invariant: a node is made after its parent, so walking the numbers downwards meets children first.

export const NONE = -1;

export interface Trie {
  size: number;
  parent: Int32Array;
  /** What stands on the edge from the parent. */
  label: Int32Array;
  /** Children, the newest first, are `first[node]`, `next[that]`, … until NONE. */
  first: Int32Array;
  next: Int32Array;
  /** Open addressing over (parent, label): slots hold node + 1. */
  slots: Int32Array;
}

export function createTrie(): Trie {
  const column = (): Int32Array => new Int32Array(16).fill(NONE);
  return { size: 1, parent: column(), label: column(), first: column(), next: column(), slots: new Int32Array(64) };
}

/** The child of `node` at `label`, or NONE. */
export function childAt(trie: Trie, node: number, label: number): number {
  // Most nodes have one child, made right after them: looking there first stays in the cache, the table does not.
  const child = trie.first[node] ?? NONE;
  if (child === NONE || trie.label[child] === label) return child;
  return trie.next[child] === NONE ? NONE : (trie.slots[slotOf(trie, node, label)] ?? 0) - 1;
}

/** The child of `node` at `label`; made when it is not there. */
export function addChild(trie: Trie, node: number, label: number): number {
  const known = childAt(trie, node, label);
  if (known !== NONE) return known;
  if (trie.size === trie.label.length) growColumns(trie);
  if (trie.size * 2 > trie.slots.length) growSlots(trie);
  const child = trie.size++;
  trie.parent[child] = node;
  trie.label[child] = label;
  trie.next[child] = trie.first[node] ?? NONE;
  trie.first[node] = child;
  trie.slots[slotOf(trie, node, label)] = child + 1;
  return child;
}

/** The slot that holds this edge, or the free one where it belongs. */
function slotOf(trie: Trie, node: number, label: number): number {
  const mask = trie.slots.length - 1;
  let hash = Math.imul(node ^ Math.imul(label, 0x9e3779b1), 0x85ebca6b);
  hash ^= hash >>> 15;
  for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
    const child = (trie.slots[slot] ?? 0) - 1;
    if (child === NONE || (trie.parent[child] === node && trie.label[child] === label)) return slot;
  }
}

function growColumns(trie: Trie): void {
  trie.parent = grown(trie.parent);
  trie.label = grown(trie.label);
  trie.first = grown(trie.first);
  trie.next = grown(trie.next);
}

/** `column` with twice the room, the new half empty. */
export function grown(column: Int32Array): Int32Array {
  const wider = new Int32Array(column.length * 2).fill(NONE, column.length);
  wider.set(column);
  return wider;
}

function growSlots(trie: Trie): void {
  trie.slots = new Int32Array(trie.slots.length * 2);
  for (let child = 1; child < trie.size; child++)
    trie.slots[slotOf(trie, trie.parent[child] ?? NONE, trie.label[child] ?? NONE)] = child + 1;
}
