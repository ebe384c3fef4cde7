// Unguessable text of [a-z0-9]. Not a generator of ids: whoever names a thing puts its prefix before this.
// Invariant: every symbol is equally likely (bytes that would bias the choice are thrown away).

import { randomBytes } from "node:crypto";

const SYMBOLS = "abcdefghijklmnopqrstuvwxyz0123456789";
/** Largest multiple of 36 that fits a byte; larger bytes would make the first symbols likelier. */
const UNBIASED = 252;

export function randomText(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(length + 8)) {
      if (byte < UNBIASED && text.length < length) text += SYMBOLS.charAt(byte % SYMBOLS.length);
    }
  }
  return text;
}
