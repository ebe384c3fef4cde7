// The sections of a canon's text: `#` headings outside of fenced code, each with what stands below it. Names alone are looked at, and only to
// give a section its kind; what it says is nobody's business here. Invariant: all text is in exactly one section, in its order.

import type { Piece } from "./expand.ts";
import { Fences } from "./parse.ts";
import type { Place } from "./source.ts";

export type SectionKind = "world" | "tone" | "conflict" | "permissions" | "causality" | "meta" | "custom";

export interface CanonSection {
  readonly kind: SectionKind;
  /** As it is written; empty for what stands above the first heading. */
  readonly title: string;
  readonly text: string;
  readonly place: Place;
}

const MAX_META = 1_000;
const ALIASES: ReadonlyMap<string, SectionKind> = new Map([
  ["world", "world"],
  ["世界", "world"],
  ["世界观", "world"],
  ["世界设定", "world"],
  ["tone", "tone"],
  ["style", "tone"],
  ["基调", "tone"],
  ["风格", "tone"],
  ["conflict", "conflict"],
  ["冲突", "conflict"],
  ["permissions", "permissions"],
  ["权限", "permissions"],
  ["causality", "causality"],
  ["因果", "causality"],
  ["meta", "meta"],
  ["元信息", "meta"],
]);

/** By the first whole word of the heading that is an alias. */
export function sectionKindOf(title: string): SectionKind {
  for (const word of title
    .normalize("NFKC")
    .toLowerCase()
    .split(/[^\p{L}\p{N}_-]+/u)) {
    const kind = ALIASES.get(word);
    if (kind !== undefined) return kind;
  }
  return "custom";
}

interface Open {
  readonly title: string;
  readonly place: Place;
  /** Offset of its text. */
  readonly from: number;
}

export function sectionsOf(pieces: readonly Piece[]): readonly CanonSection[] {
  const text = pieces.map((piece) => piece.text).join("");
  const placeAt = places(pieces);
  const fences = new Fences();
  const sections: CanonSection[] = [];
  let open: Open | undefined;
  const close = (upTo: number): void => {
    const body = text.slice(open?.from ?? 0, upTo);
    if (open !== undefined) sections.push({ kind: sectionKindOf(open.title), title: open.title, text: body, place: open.place });
    else if (body.trim() !== "") sections.push({ kind: "custom", title: "", text: body, place: placeAt(0) });
  };
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf("\n", from);
    const next = end < 0 ? text.length : end + 1;
    const line = text.slice(from, next);
    if (!fences.covers(line) && line.startsWith("#")) {
      const title = titleOf(line.trimEnd());
      if (title !== undefined) {
        close(from);
        open = { title, place: placeAt(from), from: next };
      }
    }
    from = next;
  }
  close(text.length);
  return sections;
}

/** Of a heading of the first level, without the marks that may close it. */
function titleOf(line: string): string | undefined {
  if (!/^#[ \t]/.test(line)) return undefined;
  const title = line.slice(1).trim();
  let end = title.length;
  while (title.charAt(end - 1) === "#") end -= 1;
  return end === title.length || (end > 0 && !/[ \t]/.test(title.charAt(end - 1))) ? title : title.slice(0, end).trim();
}

/** The file, line and column of an offset. Asked in growing order, so that each character is passed once. */
function places(pieces: readonly Piece[]): (offset: number) => Place {
  let index = 0;
  let start = 0;
  /** What is known of the piece so far: lines before `passed`, and where the last of them begins. */
  let passed = 0;
  let lines = 0;
  let lineStart = 0;
  return (offset) => {
    for (let piece = pieces[index]; piece !== undefined && offset >= start + piece.text.length; piece = pieces[index]) {
      start += piece.text.length;
      index += 1;
      passed = lines = lineStart = 0;
    }
    const piece = pieces[index];
    if (piece === undefined) return { file: "", line: 1, column: 1 };
    for (let at = piece.text.indexOf("\n", passed); at >= 0 && at < offset - start; at = piece.text.indexOf("\n", passed)) {
      lines += 1;
      passed = lineStart = at + 1;
    }
    const { file, line, column } = piece.place;
    return { file, line: line + lines, column: (lines === 0 ? column : 1) + offset - start - lineStart };
  };
}

export function metaOf(sections: readonly CanonSection[]): Readonly<Record<string, string>> {
  const found = new Map<string, string>();
  for (const { kind, text } of sections) {
    if (kind !== "meta") continue;
    for (const line of text.split("\n")) {
      const entry = line
        .trim()
        .replace(/^[-*][ \t]/, "")
        .slice(0, MAX_META);
      const at = entry.indexOf(":");
      if (at > 0 && at <= 60 && entry.slice(at + 1).trim() !== "") found.set(entry.slice(0, at).trim(), entry.slice(at + 1).trim());
    }
  }
  return Object.fromEntries(found);
}
