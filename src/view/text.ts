// The diff of a delta as a patch: one section per file, streamed. What a patch cannot carry - binary and very large files, empty
// directories, special files - is named in lines that begin with `#`, which `git apply` passes over.
// Hostile bytes throughout: whoever shows the text on a terminal makes it inert first.
// Invariant: memory is bounded by the two sides of one file, each at most MAX_TEXT_BYTES.

import { errorCode } from "../api/errors.ts";
import type { DeltaChange, DeltaChanges, DeltaInput } from "./changes.ts";
import { named } from "./select.ts";
import { Contents, type Source } from "./stage.ts";
import { gitName, headerName, hunks, isBinary } from "./unified.ts";

/** A side longer than this is named only, bytes. */
export const MAX_TEXT_BYTES = 16 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const NOTHING = Buffer.alloc(0);

export async function* deltaText(
  input: DeltaInput,
  { changes, placeOf }: Pick<DeltaChanges, "changes" | "placeOf">,
  paths?: readonly string[],
): AsyncGenerator<Uint8Array> {
  const asked = named(changes, paths);
  const contents = new Contents(input, placeOf);
  let done = false;
  try {
    yield* inBlocks(
      sections(
        changes.filter((change) => asked.has(change)),
        contents,
      ),
    );
    await contents.close();
    done = true;
  } finally {
    if (!done) await contents.abandon();
  }
}

async function* sections(changes: readonly DeltaChange[], contents: Contents): AsyncGenerator<Buffer> {
  for (const [index, change] of changes.entries()) {
    if (change.before !== undefined && change.after !== undefined && change.before.kind !== change.after.kind) {
      yield* section(withoutAfter(change), contents);
      yield* section(withoutBefore(change), contents);
    } else if (change.type === "dir") {
      const isEmpty = changes[index + 1]?.path.startsWith(`${change.path}/`) !== true;
      if (change.kind === "add" && isEmpty) yield note("new directory", change);
      if (change.kind === "mode") yield note(`mode ${octal(change.before?.mode)} to ${octal(change.mode)} of directory`, change);
    } else yield* section(change, contents);
  }
}

/** A change of type is a deletion and an addition. */
function withoutAfter({ after: _, ...change }: DeltaChange): DeltaChange {
  return { ...change, kind: "delete", type: change.before?.kind ?? "other" };
}

function withoutBefore({ before: _, ...change }: DeltaChange): DeltaChange {
  return { ...change, kind: "add" };
}

function note(what: string, change: DeltaChange): Buffer {
  return Buffer.from(`# ${what}: ${gitName(change.path.slice(1))}\n`, "latin1");
}

function octal(mode = 0): string {
  return (mode & 0o777).toString(8).padStart(3, "0");
}

function gitMode(kind: string, mode: number): string {
  if (kind === "link") return "120000";
  return (mode & 0o100) === 0 ? "100644" : "100755";
}

interface Side {
  readonly content: Buffer;
  /** Why it cannot stand in a patch. */
  readonly unfit?: string;
}

async function* section(change: DeltaChange, contents: Contents): AsyncGenerator<Buffer> {
  if (change.type === "other") yield note("special file, left out", change);
  if (change.type === "other" || change.type === "dir") return;
  const [oldPath, newPath] = [(change.from ?? change.path).slice(1), change.path.slice(1)];
  const head = [`diff --git ${gitName(`a/${oldPath}`)} ${gitName(`b/${newPath}`)}`, ...modeLines(change)];
  if (change.from !== undefined) head.push("similarity index 100%", `rename from ${gitName(oldPath)}`, `rename to ${gitName(newPath)}`);
  if (change.kind === "rename" || change.kind === "mode") {
    yield head.length > 1 ? latin1(head) : note(`mode ${octal(change.before?.mode)} to ${octal(change.mode)} of file`, change);
    return;
  }
  const before = await oldSide(change, contents);
  const after = await newSide(change, contents);
  const unfit = before.unfit ?? after.unfit ?? (isBinary(before.content) || isBinary(after.content) ? "binary file" : undefined);
  if (unfit !== undefined) {
    yield note(`${unfit}, ${change.kind === "delete" ? "deleted" : change.kind === "add" ? "added" : "changed"}`, change);
    return;
  }
  const body = hunks(before.content, after.content);
  const first = body.next();
  if (first.done !== true) {
    head.push(
      change.before === undefined ? "--- /dev/null" : `--- ${headerName(`a/${oldPath}`)}`,
      change.after === undefined ? "+++ /dev/null" : `+++ ${headerName(`b/${newPath}`)}`,
    );
  }
  yield latin1(head);
  if (first.done === true) return;
  yield first.value;
  yield* body;
}

function latin1(lines: readonly string[]): Buffer {
  return Buffer.from(`${lines.join("\n")}\n`, "latin1");
}

function modeLines({ before, fromEntry, after, mode }: DeltaChange): string[] {
  const old = before ?? fromEntry;
  if (after === undefined) return old === undefined ? [] : [`deleted file mode ${gitMode(old.kind, old.mode)}`];
  const now = gitMode(after.kind, mode);
  if (old === undefined) return [`new file mode ${now}`];
  const was = gitMode(old.kind, old.mode);
  return was === now ? [] : [`old mode ${was}`, `new mode ${now}`];
}

async function oldSide({ path, before }: DeltaChange, contents: Contents): Promise<Side> {
  if (before === undefined) return { content: NOTHING };
  if (before.kind === "link") return { content: Buffer.from(before.target, "latin1") };
  if (before.kind === "other") return { content: NOTHING, unfit: "special file" };
  return await readSide(contents, { root: "base", path }, before.size);
}

async function newSide({ after }: DeltaChange, contents: Contents): Promise<Side> {
  if (after === undefined) return { content: NOTHING };
  if (after.kind === "link") return { content: Buffer.from(after.target, "latin1") };
  return after.source === undefined ? { content: NOTHING } : await readSide(contents, after.source, after.size);
}

async function readSide(contents: Contents, source: Source, size: number): Promise<Side> {
  if (size > MAX_TEXT_BYTES) return { content: NOTHING, unfit: `file of ${size} bytes, too large to show` };
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of contents.read(source, MAX_TEXT_BYTES)) chunks.push(chunk);
  } catch (error) {
    // The live codebase moved on; commit will call it a conflict.
    if (errorCode(error) === "commit_conflict")
      return { content: NOTHING, unfit: "file whose content in the codebase cannot be read any more" };
    throw error;
  }
  return { content: Buffer.concat(chunks) };
}

/** Joins lines into blocks: a line is no unit to hand over one by one. */
async function* inBlocks(parts: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  let pending: Buffer[] = [];
  let bytes = 0;
  for await (const part of parts) {
    pending.push(part);
    bytes += part.length;
    if (bytes < CHUNK_BYTES) continue;
    yield Buffer.concat(pending);
    pending = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(pending);
}
