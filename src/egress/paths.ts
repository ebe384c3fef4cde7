// Paths of requests, and the patterns of a rule. Compares bytes as they will be sent and decodes nothing.
// Invariant: a path that some server could read as another one matches no pattern at all.

import { MAX_NETWORK_PATH_BYTES } from "../api/limits.ts";

export type PathPattern = readonly string[];

/** RFC 3986 `pchar` and `/`; what is escaped stays as it is. */
const PATH = /^\/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*$/;
/** SAFETY: dot segments in every spelling, an escaped slash, backslash, dot, `%` or control byte, empty segments, parameters of a segment. */
const TWO_READINGS = /(?:^|\/)\.\.?(?:\/|$)|%(?:2[ef5]|5c|[01][0-9a-f]|7f)|\/\/|;/i;

/** Why it is no pattern, or the pattern. */
export function parsePathPattern(text: string): PathPattern | string {
  if (Buffer.byteLength(text) > MAX_NETWORK_PATH_BYTES) return `is longer than ${MAX_NETWORK_PATH_BYTES} bytes`;
  if (!text.startsWith("/")) return "does not begin with /";
  if (!PATH.test(text) || TWO_READINGS.test(text)) return "holds what no request's path may hold (?, #, \\, ;, .., //, %2f, %2e)";
  const segments = text.slice(1).split("/");
  if (segments.slice(0, -1).includes("**")) return "has ** before its end";
  if (segments.some((segment) => segment !== "**" && segment.includes("**"))) return "has ** within a segment";
  return segments;
}

/** Time linear in both but for `*` within one segment, where it is their product. */
export function pathMatches(pattern: PathPattern, path: string): boolean {
  if (!PATH.test(path) || TWO_READINGS.test(path)) return false;
  const segments = path.slice(1).split("/");
  const isOpen = pattern.at(-1) === "**";
  const fixed = isOpen ? pattern.slice(0, -1) : pattern;
  if (isOpen ? segments.length <= fixed.length : segments.length !== fixed.length) return false;
  return fixed.every((part, index) => segmentMatches(part, segments[index] ?? ""));
}

/** `*` is any run of characters, the empty one too; a segment that is `*` alone is not empty. */
function segmentMatches(pattern: string, text: string): boolean {
  if (pattern === "*") return text !== "";
  const pieces = pattern.split("*");
  const first = pieces[0] ?? "";
  if (pieces.length === 1) return pattern === text;
  const last = pieces.at(-1) ?? "";
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}
