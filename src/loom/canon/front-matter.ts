// The head of a canon: YAML between `---` lines, with its name, kind, version, variables and what is enforced. Not the prose.
// Invariant: every key is known and of its shape, or a problem at its own line and column; aliases and deep nesting are refused.

import { isMap, isScalar, LineCounter, parseDocument, visit, type Node, type Pair } from "yaml";
import type { WorldKind } from "../../api/loom.ts";
import type { CanonValue } from "./expression.ts";
import type { Place, Problems } from "./source.ts";

export interface FrontMatter {
  readonly name: string | undefined;
  readonly kind: WorldKind | undefined;
  readonly version: string | undefined;
  readonly vars: ReadonlyMap<string, CanonValue>;
  /** Sections that must be there, beside those of the kind. */
  readonly required: readonly string[];
  /** All of it, as plain data. */
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Split {
  /** Without its `---` lines; `undefined`: there is none. */
  readonly head: string | undefined;
  readonly body: string;
  /** Line of the file at which the body begins. */
  readonly bodyLine: number;
}

const MAX_HEAD_BYTES = 64 * 1024;
const MAX_DEPTH = 16;
/** That open, wherever they stand: the reader recurses. */
const MAX_BRACKETS = 500;
const NONE: FrontMatter = { name: undefined, kind: undefined, version: undefined, vars: new Map(), required: [], data: {} };

export function splitFrontMatter(text: string): Split {
  const match = /^---[ \t]*\r?\n(?:([\s\S]*?)\r?\n)?---[ \t]*(?:\r?\n|$)/.exec(text);
  if (match === null) return { head: undefined, body: text, bodyLine: 1 };
  return {
    head: match[1] ?? "",
    body: text.slice(match[0].length),
    bodyLine: match[0].split("\n").length - Number(!match[0].endsWith("\n")),
  };
}

export function readFrontMatter(file: string, head: string | undefined, problems: Problems): FrontMatter {
  const top = { file, line: 1, column: 1 };
  if (head === undefined) return NONE;
  if (head.length > MAX_HEAD_BYTES) {
    problems.error("too-large", top, `the front matter is longer than ${MAX_HEAD_BYTES} bytes`);
    return NONE;
  }
  const lines = new LineCounter();
  // The head begins on the file's second line.
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: line + 1, column: col };
  };
  const document = parsed(head, lines);
  if (document === undefined) {
    problems.error("bad-front-matter", top, `the front matter nests deeper than ${MAX_DEPTH}, or uses aliases`);
    return NONE;
  }
  for (const { pos, message } of [...document.errors, ...document.warnings]) problems.error("bad-front-matter", placeAt(pos[0]), message);
  if (document.errors.length > 0 || document.contents === null) return NONE;
  if (!isMap(document.contents)) {
    problems.error("bad-front-matter", placeAt(document.contents.range?.[0] ?? 0), "the front matter is a list of `key: value`");
    return NONE;
  }
  const fail = (node: Node | null, message: string): void =>
    problems.error("bad-front-matter", placeAt(node?.range?.[0] ?? document.contents?.range?.[0] ?? 0), message);
  return readMap(document.contents.items, document.toJS() as Record<string, unknown>, fail);
}

function parsed(head: string, lineCounter: LineCounter) {
  if (head.split(/[[{]/).length > MAX_BRACKETS) return undefined;
  try {
    const document = parseDocument(head, {
      lineCounter,
      prettyErrors: false,
      uniqueKeys: true,
      merge: false,
      schema: "core",
      version: "1.2",
    });
    let refused = false;
    visit(document, {
      Alias: () => {
        refused = true;
        return visit.BREAK;
      },
      Collection: (_key, _node, path) => {
        refused ||= path.length > 2 * MAX_DEPTH;
        return refused ? visit.BREAK : undefined;
      },
    });
    return refused ? undefined : document;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the reader recurses
    return undefined;
  }
}

type Fail = (node: Node | null, message: string) => void;

/** What a key holds: said in its problem. */
const SHAPES: Readonly<Record<string, { readonly is: (value: unknown) => boolean; readonly what: string }>> = {
  name: { is: isText, what: "text of up to 200 characters" },
  kind: { is: (value) => value === "story" || value === "agent", what: "`story` or `agent`" },
  version: { is: (value) => isText(value) || typeof value === "number", what: "text or a number" },
  author: { is: isText, what: "text of up to 200 characters" },
  tags: { is: isTexts, what: "a list of texts" },
  vars: { is: isVars, what: "a map of names to text, numbers, `true` or `false`" },
  clock: { is: isRecord, what: "a map" },
  required: { is: isTexts, what: "a list of texts" },
  allow: { is: isRecord, what: "a map" },
  models: { is: isRecord, what: "a map" },
  budget: { is: isRecord, what: "a map" },
  lore: { is: isRecord, what: "a map" },
};

function readMap(items: readonly Pair<Node, Node | null>[], data: Record<string, unknown>, fail: Fail): FrontMatter {
  const kept: Record<string, unknown> = {};
  for (const { key, value } of items) {
    const name = isScalar(key) ? String(key.value) : "";
    const shape = SHAPES[name];
    if (shape === undefined) fail(key, `there is no key ${JSON.stringify(name.slice(0, 40))}; known are ${Object.keys(SHAPES).join(", ")}`);
    else if (shape.is(data[name])) kept[name] = data[name];
    else fail(value ?? key, `\`${name}\` is ${shape.what}`);
  }
  const {
    name,
    kind,
    version,
    vars = {},
    required = [],
  } = kept as {
    name?: string;
    kind?: WorldKind;
    version?: string | number;
    vars?: Record<string, CanonValue>;
    required?: string[];
  };
  const told = version === undefined ? undefined : String(version);
  return { name, kind, version: told, vars: new Map(Object.entries(vars)), required, data: kept };
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value.length > 0 && value.length <= 200;
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.length <= 100 && value.every(isText);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isVars(value: unknown): boolean {
  return (
    isRecord(value) &&
    Object.entries(value).every(([name, one]) => /^[\p{L}_][\p{L}\p{N}_.-]*$/u.test(name) && /^(?:string|number|boolean)$/.test(typeof one))
  );
}
