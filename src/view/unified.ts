// Unified text of two contents, hunk by hunk, in the form that `git apply` reads. It knows no delta and opens nothing.
// Invariant: the bytes of the lines are the files' own; only names are spelled anew, so that no name can end a line or forge a header.

import { diffLines } from "./diff-lines.ts";

const CONTEXT = 3;
const NEWLINE = 0x0a;

/** A name as git spells it in a patch: quoted with octal escapes when a byte of it needs that. `path` is latin1. */
export function gitName(path: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control bytes are what makes a name need quotes.
  if (!/["\\\x00-\x1f\x7f-\xff]/.test(path)) return path;
  let out = "";
  for (const char of path) {
    const code = char.charCodeAt(0);
    if (char === '"' || char === "\\") out += `\\${char}`;
    else if (char === "\n") out += "\\n";
    else if (char === "\t") out += "\\t";
    else if (code < 0x20 || code > 0x7e) out += `\\${code.toString(8).padStart(3, "0")}`;
    else out += char;
  }
  return `"${out}"`;
}

/** Names after `---` and `+++` end at a tab when they hold a blank. */
export function headerName(path: string): string {
  const name = gitName(path);
  return name.startsWith('"') || !name.includes(" ") ? name : `${name}\t`;
}

/** A NUL byte makes a file binary, as it does for git. */
export function isBinary(content: Uint8Array): boolean {
  return content.includes(0);
}

/** The hunks that turn `before` into `after`; nothing when they are equal. */
export function* hunks(before: Buffer, after: Buffer): Generator<Buffer> {
  const numbers = new Map<string, number>();
  const [oldLines, newLines] = [splitLines(before), splitLines(after)];
  const { gone, made } = diffLines(numbered(before, oldLines, numbers), numbered(after, newLines, numbers));
  for (const hunk of findHunks(gone, made)) yield* hunkText(hunk, { before, after, oldLines, newLines, gone, made });
}

/** End offset of each line, its newline included. */
function splitLines(content: Buffer): number[] {
  const ends: number[] = [];
  for (let at = 0; at < content.length; ) {
    const newline = content.indexOf(NEWLINE, at);
    at = newline === -1 ? content.length : newline + 1;
    ends.push(at);
  }
  return ends;
}

function numbered(content: Buffer, ends: readonly number[], numbers: Map<string, number>): Int32Array {
  const found = new Int32Array(ends.length);
  let start = 0;
  ends.forEach((end, index) => {
    const text = content.toString("latin1", start, end);
    start = end;
    const number = numbers.get(text) ?? numbers.size;
    numbers.set(text, number);
    found[index] = number;
  });
  return found;
}

interface Hunk {
  readonly oldFrom: number;
  readonly oldTo: number;
  readonly newFrom: number;
  readonly newTo: number;
}

/** Joins changes that lie closer together than their context. */
function* findHunks(gone: Uint8Array, made: Uint8Array): Generator<Hunk> {
  let [oldAt, newAt] = [0, 0];
  let open: { oldFrom: number; newFrom: number; oldEnd: number; newEnd: number } | undefined;
  const close = ({ oldFrom, newFrom, oldEnd, newEnd }: NonNullable<typeof open>): Hunk => {
    const before = Math.min(CONTEXT, oldFrom, newFrom);
    const after = Math.min(CONTEXT, gone.length - oldEnd, made.length - newEnd);
    return { oldFrom: oldFrom - before, oldTo: oldEnd + after, newFrom: newFrom - before, newTo: newEnd + after };
  };
  while (oldAt < gone.length || newAt < made.length) {
    if (gone[oldAt] !== 1 && made[newAt] !== 1) {
      oldAt++;
      newAt++;
      continue;
    }
    if (open !== undefined && oldAt - open.oldEnd > 2 * CONTEXT) {
      yield close(open);
      open = undefined;
    }
    const [oldFrom, newFrom]: [number, number] = open === undefined ? [oldAt, newAt] : [open.oldFrom, open.newFrom];
    while (gone[oldAt] === 1) oldAt++;
    while (made[newAt] === 1) newAt++;
    open = { oldFrom, newFrom, oldEnd: oldAt, newEnd: newAt };
  }
  if (open !== undefined) yield close(open);
}

interface Sides {
  readonly before: Buffer;
  readonly after: Buffer;
  readonly oldLines: readonly number[];
  readonly newLines: readonly number[];
  readonly gone: Uint8Array;
  readonly made: Uint8Array;
}

function* hunkText(hunk: Hunk, sides: Sides): Generator<Buffer> {
  yield Buffer.from(`@@ -${range(hunk.oldFrom, hunk.oldTo)} +${range(hunk.newFrom, hunk.newTo)} @@\n`);
  let [oldAt, newAt] = [hunk.oldFrom, hunk.newFrom];
  while (oldAt < hunk.oldTo || newAt < hunk.newTo) {
    if (oldAt < hunk.oldTo && sides.gone[oldAt] === 1) yield* line("-", sides.before, sides.oldLines, oldAt++);
    else if (newAt < hunk.newTo && sides.made[newAt] === 1) yield* line("+", sides.after, sides.newLines, newAt++);
    else {
      yield* line(" ", sides.before, sides.oldLines, oldAt++);
      newAt++;
    }
  }
}

function range(from: number, to: number): string {
  const count = to - from;
  return count === 1 ? `${from + 1}` : `${count === 0 ? from : from + 1},${count}`;
}

function* line(sign: string, content: Buffer, ends: readonly number[], index: number): Generator<Buffer> {
  const bytes = content.subarray(index === 0 ? 0 : ends[index - 1], ends[index]);
  yield Buffer.from(sign);
  yield bytes;
  if (bytes.at(-1) !== NEWLINE) yield Buffer.from("\n\\ No newline at end of file\n");
}
