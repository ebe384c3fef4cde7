// Bytes that a program wrote, as bounded text for a model. Invariant: never longer than the bound, cut between characters.

import { MCP_TEXT_BYTES } from "../api/limits.ts";
import { inertLines } from "../base/inert.ts";

/** A program's output: escapes are spelled out, so that no screen acts on them. */
export function outputText(bytes: Uint8Array): string {
  return inertLines(decode(bytes));
}

/** UTF-8 of the first MCP_TEXT_BYTES; a character that the bound cuts is left out, what is no UTF-8 becomes U+FFFD. */
export function decode(bytes: Uint8Array): string {
  const isCut = bytes.length > MCP_TEXT_BYTES;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, MCP_TEXT_BYTES), { stream: isCut });
}
