// File names as policy/ sees them: byte strings, one JavaScript character (0-255) per byte, never a UTF-8 round trip.
// It decides nothing; it only spells names - for matching (symbols), for people (printable) and from text (toBytes).
// Invariant: `symbolsOf` is one-to-one, so equal symbols mean equal bytes: no Unicode or case folding can creep in.

/** Symbols of bytes that are not part of valid UTF-8 stand above the last code point, so that no character equals one. */
const RAW_BYTE = 0x110000;
/** One above the highest symbol. */
export const SYMBOL_LIMIT = RAW_BYTE + 256;

/** The byte string of `text` in UTF-8. `text` must be well formed: a lone surrogate has no bytes. */
export function toBytes(text: string): string {
  return isAscii(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}

export function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** Reads `bytes` as characters: a valid UTF-8 sequence is one symbol (its code point), any other byte is one symbol of its own. */
export function symbolsOf(bytes: string): number[] {
  const symbols: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    symbols.push(length === 0 ? RAW_BYTE + bytes.charCodeAt(at) : codePoint(bytes, at, length));
    at += length === 0 ? 1 : length;
  }
  return symbols;
}

/** Bytes of the valid UTF-8 sequence at `at`, or 0. Overlong forms, surrogates and values above U+10FFFF are not valid. */
function sequenceLength(bytes: string, at: number): number {
  const first = bytes.charCodeAt(at);
  if (first < 0x80) return 1;
  const length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  for (let i = 1; i < length; i++) {
    const next = bytes.charCodeAt(at + i);
    if (next < 0x80 || next > 0xbf) return 0;
  }
  const value = codePoint(bytes, at, length);
  const overlong = (length === 3 && value < 0x800) || (length === 4 && value < 0x10000);
  return overlong || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? 0 : length;
}

function codePoint(bytes: string, at: number, length: number): number {
  const first = bytes.charCodeAt(at);
  if (length === 1) return first;
  let value = first & (0xff >> (length + 1));
  for (let i = 1; i < length; i++) value = (value << 6) | (bytes.charCodeAt(at + i) & 0x3f);
  return value;
}

/**
 * `bytes` for a person: readable characters stand as they are, all others as `\n`, `\x1b` or `\u{202e}`, a backslash as `\\`.
 * SAFETY: names come from hostile code; printed raw they could move the cursor or turn the line around.
 */
export function printable(bytes: string): string {
  let out = "";
  for (const symbol of symbolsOf(bytes)) {
    if (symbol >= RAW_BYTE) out += `\\x${(symbol - RAW_BYTE).toString(16).padStart(2, "0")}`;
    else if (symbol === 0x5c) out += "\\\\";
    else if (symbol === 0x0a) out += "\\n";
    else if (symbol === 0x09) out += "\\t";
    else if (symbol < 0x20 || symbol === 0x7f) out += `\\x${symbol.toString(16).padStart(2, "0")}`;
    else if (symbol > 0x7f && !/^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(String.fromCodePoint(symbol))) out += `\\u{${symbol.toString(16)}}`;
    else out += String.fromCodePoint(symbol);
  }
  return out;
}

/**
 * The names on the way from the root to `path` (a byte string, absolute in the codebase). `//`, `/./` and a trailing `/` are dropped;
 * `..` goes up by name and stays at the root, as it does in the kernel. It follows no link: that is the walker's work.
 */
export function namesOf(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return names;
}
