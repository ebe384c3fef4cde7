// A canon from its files: one text in sections, with all that is wrong in it. Pure: files in, canon out; no disk, no clock, no model.
// Not an interpreter: what a section says is for the model to read. Invariant: equal files and variables give an equal canon; a canon with
// an error has problems with places and is never used.

import { createHash } from "node:crypto";
import type { CanonProblem, WorldKind } from "../../api/loom.ts";
import { expand } from "./expand.ts";
import type { CanonValue } from "./expression.ts";
import { readFrontMatter, splitFrontMatter } from "./front-matter.ts";
import type { RuleBlock } from "./parse.ts";
import { type CanonSection, metaOf, type SectionKind, sectionKindOf, sectionsOf } from "./sections.ts";
import { type CanonFiles, Problems } from "./source.ts";

export interface Canon {
  readonly name: string;
  readonly kind: WorldKind;
  readonly version: string | undefined;
  /** Of the files it stands on: the same hash is the same canon. */
  readonly hash: string;
  readonly sections: readonly CanonSection[];
  /** `key: value` lines of sections of the kind `meta`. */
  readonly meta: Readonly<Record<string, string>>;
  readonly rules: readonly RuleBlock[];
  /** The front matter as plain data. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly vars: ReadonlyMap<string, CanonValue>;
  readonly files: readonly string[];
  readonly problems: readonly CanonProblem[];
  /** No error among the problems. */
  readonly usable: boolean;
}

export interface CompileRequest {
  readonly files: CanonFiles;
  /** Default: `canon/main.md`, else `main.md`, else the only file. */
  readonly entry?: string;
  /** Of the session; those that the front matter does not know are left out. */
  readonly vars?: ReadonlyMap<string, CanonValue>;
}

const ENTRIES = ["canon/main.md", "main.md"];
const NEEDED: Readonly<Record<WorldKind, readonly SectionKind[]>> = { story: ["world", "tone"], agent: [] };

export function compileCanon({ files: given, entry, vars = new Map() }: CompileRequest): Canon {
  const problems = new Problems();
  const files = new Map([...given].map(([path, text]) => [path, text.normalize("NFC").replace(/^\uFEFF/, "")]));
  const file = entry ?? ENTRIES.find((path) => files.has(path)) ?? [...files.keys()][0] ?? "main.md";
  const top = { file, line: 1, column: 1 };
  if (!files.has(file)) problems.error("include-missing", top, "a canon begins with a file main.md, and there is none");
  const { head, body, bodyLine } = splitFrontMatter(files.get(file) ?? "");
  const front = readFrontMatter(file, head, problems);
  const known = new Map([...front.vars].map(([name, value]) => [name, vars.get(name) ?? value]));
  const expanded = expand({ files, entry: { file, body, line: bodyLine }, vars: known, problems });
  const sections = sectionsOf(expanded.pieces);
  const kind = front.kind ?? "story";
  if (front.version === undefined) problems.warn("missing-version", top, "the front matter has no `version`");
  if (!problems.failed) {
    judgeSections(problems, { sections, needed: [...NEEDED[kind], ...front.required], kind, file });
    judgeReferences(problems, expanded.references, sections);
  }
  return {
    ...{ name: front.name ?? "", kind, version: front.version, hash: hashOf(files, expanded.files), sections, meta: metaOf(sections) },
    ...{ rules: expanded.rules, settings: front.data, vars: known, files: expanded.files },
    problems: problems.list(),
    usable: !problems.failed,
  };
}

interface Judged {
  readonly sections: readonly CanonSection[];
  readonly needed: readonly string[];
  readonly kind: WorldKind;
  readonly file: string;
}

function judgeSections(problems: Problems, { sections, needed, kind, file }: Judged): void {
  const top = { file, line: 1, column: 1 };
  const filled = sections.filter(({ text }) => text.trim() !== "");
  const titles = new Set(filled.map(({ title }) => read(title)));
  const kinds = new Set(filled.map((one) => one.kind));
  for (const want of needed) {
    const of = sectionKindOf(want);
    if (!(of === "custom" ? titles.has(read(want)) : kinds.has(of)))
      problems.error("missing-section", top, `a ${kind} canon needs a section ${JSON.stringify(want)} with text`);
  }
  if (kind === "agent" && filled.length === 0) problems.error("missing-section", top, "an agent canon needs one section with text");
  const seen = new Set<string>();
  for (const { title, text, place } of sections) {
    if (title === "") continue;
    if (text.trim() === "") problems.warn("empty-section", place, `the section ${JSON.stringify(title)} is empty`);
    if (seen.has(read(title)))
      problems.warn("duplicate-section", place, `a section ${JSON.stringify(title)} stands above; both are kept, in order`);
    seen.add(read(title));
  }
}

type References = ReturnType<typeof expand>["references"];

function judgeReferences(problems: Problems, references: References, sections: readonly CanonSection[]): void {
  if (references.length === 0) return;
  const files = new Map<string, string[]>();
  for (const { title, place } of sections) {
    const held = files.get(read(title)) ?? [];
    held.push(place.file);
    files.set(read(title), held);
  }
  for (const { file, section, place } of references) {
    const found = files.get(read(section));
    if (found === undefined || (file !== undefined && !found.some((one) => one === file || one.endsWith(`/${file}`))))
      problems.error(
        "unknown-reference",
        place,
        `there is no section ${JSON.stringify(section)}${file === undefined ? "" : ` in ${file}`}`,
      );
  }
}

/** Names are equal as people read them. */
function read(name: string): string {
  return name.normalize("NFKC").trim().toLowerCase();
}

function hashOf(files: CanonFiles, used: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of used) {
    const text = Buffer.from(files.get(path) ?? "");
    hash.update(`${path}\0${text.length}\0`).update(text);
  }
  return hash.digest("base64url");
}

/** The canon as a model reads it. */
export function canonText({ sections }: Pick<Canon, "sections">): string {
  return sections.map(({ title, text }) => (title === "" ? text.trim() : `# ${title}\n\n${text.trim()}`)).join("\n\n");
}
