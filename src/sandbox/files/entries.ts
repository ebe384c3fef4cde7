// What the worker tells of files, as the contract has it. Invariant: an answer that a correct worker could not give to this request is a Lie.

import type { FileEntry } from "../../api/files.ts";
import { joined, lastName, toldPath } from "./path.ts";
import { type AnswerReader, Lie, type WireEntry } from "./wire.ts";

const MAX_DATE_MS = 8.64e15;
const USER = "user.";

export function entryOf(path: Buffer, entry: WireEntry, metadata?: FileEntry["metadata"]): FileEntry {
  const told = toldPath(path);
  const ms = entry.mtimeSeconds * 1_000 + Math.floor(entry.mtimeNs / 1_000_000);
  return {
    name: lastName(told.path),
    ...told,
    type: entry.type,
    size: entry.size,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    modifiedAt: new Date(Math.max(-MAX_DATE_MS, Math.min(MAX_DATE_MS, ms))).toISOString(),
    ...(entry.type === "link" ? { target: entry.target.toString("utf8") } : {}),
    ...(metadata === undefined ? {} : { metadata }),
  };
}

/** Entry and attributes; values that are no text are left out. */
export function readStat(answer: AnswerReader): { readonly entry: WireEntry; readonly metadata: Record<string, string> } {
  const entry = answer.entry(false);
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  while (answer.left > 0) {
    const names = answer.bytes(2).readUInt16LE(0);
    const values = answer.u32();
    const name = answer.bytes(names).toString("latin1");
    const bytes = answer.bytes(values);
    const value = bytes.toString("utf8");
    if (name.startsWith(USER) && Buffer.from(value, "utf8").equals(bytes)) metadata[name.slice(USER.length)] = value;
  }
  return { entry, metadata };
}

export interface Page {
  readonly more: boolean;
  readonly entries: readonly WireEntry[];
}

/** Of a listing behind the name `after`: in order, none twice, none more than asked for. */
export function readPage(answer: AnswerReader, after: Buffer, most: number): Page {
  const more = answer.u8();
  const entries: WireEntry[] = [];
  let last = after;
  while (answer.left > 0) {
    const entry = answer.entry(true);
    if (Buffer.compare(entry.name, last) <= 0) throw new Lie("a listing that is out of order");
    if (entries.length === most) throw new Lie("a listing that is too long");
    entries.push(entry);
    last = entry.name;
  }
  if (more > 1 || (more === 1 && entries.length === 0)) throw new Lie("a listing that goes on without an end");
  return { more: more === 1, entries };
}

export function listed(dir: Buffer, entry: WireEntry): FileEntry {
  return entryOf(joined(dir, entry.name), entry);
}
