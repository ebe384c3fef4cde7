// Makes text that came out of a sandbox harmless for a person's terminal: names, reasons, diffs, exit messages.
// Not for the program's own output, which terminal-filter.ts lets through with its colours.
// Invariant: the result holds no control character (but tab and newline where asked), no C1, no bidi or invisible character.

/** C0, DEL, C1, line and paragraph separators, bidi controls, zero-width and tag characters, surrogates without a partner. */
const ACTIVE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

/** One line: newlines are spelled out too, so a name cannot draw a second line. */
export function inert(text: string): string {
  return text.replace(ACTIVE, spell);
}

/** Several lines, as a diff or a tree: newline and tab stay. */
export function inertLines(text: string): string {
  return text.replace(ACTIVE, (character) => (character === "\n" || character === "\t" ? character : spell(character)));
}

/** JSON of a value: still JSON, and no character of any string in it acts. */
export function inertJson(value: unknown): string {
  return JSON.stringify(value).replace(ACTIVE, (character) => {
    const units = Array.from({ length: character.length }, (_unused, at) => character.charCodeAt(at).toString(16).padStart(4, "0"));
    return units.map((unit) => `\\u${unit}`).join("");
  });
}

function spell(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return `\\u{${code.toString(16)}}`;
}
