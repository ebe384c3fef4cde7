// Finds what a TypeScript file imports: import, export-from, import(), require and import types. Reads text, not a syntax tree, so it
// first blanks what is not code. Invariant: an import that it cannot read (a computed name) is reported, never passed over.

/** Keeps the length and the line breaks, so that a place in the result is a place in the source. */
function blank(text: string): string {
  return text.replace(/[^\n]/g, " ");
}

// A regular expression is only told from a division by what stands before it.
const TOKENS =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[\s\S])*`|(?<=[=(,:[!&|?{};\n]\s*)\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\//g;

/** The source with all that is not code blanked: comments, templates, regular expressions, and strings between their quotes. */
export function codeOf(source: string): string {
  return source.replace(TOKENS, (token) => {
    const quote = token[0] ?? "";
    return quote === '"' || quote === "'" ? quote + " ".repeat(token.length - 2) + quote : blank(token);
  });
}

export interface Import {
  /** As written; `undefined` when it is computed. */
  readonly target: string | undefined;
  readonly index: number;
}

const STATIC = /\b(?:import|export)\b(?:[^;"'()]*?\bfrom)?\s*(?<target>" +"|' +')/dg;
const DYNAMIC = /(?<![.\w$])(?:import|require)\s*\(\s*(?<target>" +"|' +')?/dg;

/** Every import of a source text, in no order. */
export function importsOf(source: string): Import[] {
  const code = codeOf(source);
  return [...code.matchAll(STATIC), ...code.matchAll(DYNAMIC)].map((match) => {
    const place = match.indices?.groups?.["target"];
    return { target: place === undefined ? undefined : source.slice(place[0] + 1, place[1] - 1), index: match.index };
  });
}
