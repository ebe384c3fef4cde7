// What a guest says of the commands that it keeps. Written beside hostile code.
// Invariant: what does not fit the protocol to the letter throws, and the list is no longer than a correct guest's.

import { CorralError } from "../../api/errors.ts";
import { MAX_KEPT_COMMANDS } from "../../api/limits.ts";
import type { KeptCommand } from "../runtime.ts";

const RECORD_WORDS = 7;
const MAX_NOTE_CHARACTERS = 4_096;
const KEY = /^[a-z0-9-]{1,64}$/;

/** From the strings of a KEPT frame. */
export function parseKept(words: readonly string[]): readonly KeptCommand[] {
  const [verb, forgotten] = words;
  if (verb !== "forgotten" || !isNumber(forgotten)) throw malformed();
  const list: KeptCommand[] = [];
  for (let at = 2; at < words.length; at += RECORD_WORDS) list.push(parseOne(words.slice(at, at + RECORD_WORDS)));
  if (list.length > MAX_KEPT_COMMANDS || new Set(list.map(({ key }) => key)).size !== list.length) throw malformed();
  return list;
}

function parseOne([verb, key = "", pid, state, from, to, note]: readonly string[]): KeptCommand {
  if (verb !== "kept" || !KEY.test(key) || !isNumber(pid) || !isNumber(from) || !isNumber(to)) throw malformed();
  if ((state !== "running" && state !== "ended") || Number(from) > Number(to)) throw malformed();
  if (note === undefined || note.length > MAX_NOTE_CHARACTERS) throw malformed();
  return { key, note, pid: Number(pid), isRunning: state === "running", from: Number(from), to: Number(to) };
}

function isNumber(text: string | undefined): text is string {
  return text !== undefined && /^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text));
}

function malformed(): CorralError {
  return new CorralError("guest_protocol", "the guest program sent a list of kept commands that cannot be; the connection is closed");
}
