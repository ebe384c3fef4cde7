// Policies as YAML or JSON: `[RULE, …]` or `{ extends?, rules, live?, audit? }`, a rule `{ pattern, permission, priority?, subtree? }`.
// It reads places and words; patterns are read by pattern.ts.
// Invariant: every key and value is known or a problem at its own line and column. Nothing is converted: `yes` is no boolean here.

import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Node, type Pair, type YAMLMap } from "yaml";
import { PERMISSIONS, type Permission, type PolicyProblem, type Rule } from "../api/policy.ts";
import { jsonProblemAt } from "./json-place.ts";
import { problemAt, type FilePolicy, type FileRule, type Place } from "./place.ts";

interface Reader {
  readonly text: string;
  readonly lines: LineCounter;
  readonly problems: PolicyProblem[];
}

export function readDocument(text: string, format: "yaml" | "json"): FilePolicy {
  const problems: PolicyProblem[] = [];
  const reader: Reader = { text, lines: new LineCounter(), problems };
  if (format === "json" && !isJson(reader)) return { rules: [], problems };
  const root = readRoot(reader);
  if (problems.length > 0 || root === undefined) return { rules: [], problems };
  if (isSeq(root)) return { rules: root.items.flatMap((item) => readRule(reader, item)), problems };
  if (isMap(root)) return { ...readPolicyMap(reader, root), problems };
  fail(reader, root, "a policy is a list of rules or `{ extends, rules }`");
  return { rules: [], problems };
}

/** JSON.parse is the judge of what JSON is; the YAML reader then gives places (JSON is a part of YAML). */
function isJson(reader: Reader): boolean {
  try {
    JSON.parse(reader.text);
    return true;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const before = reader.text.slice(0, jsonProblemAt(reader.text)).split("\n");
    reader.problems.push(problemAt({ line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }, "this is not JSON from here on"));
    return false;
  }
}

/** Unclosed brackets up to here are read; a policy needs three. The reader's time grows faster than their number. */
const MAX_UNCLOSED = 500;

/** Brackets are counted wherever they stand, in texts too: those come in pairs, or a few are too many. */
function nestsTooDeep(text: string): boolean {
  let unclosed = 0;
  for (let at = 0; at < text.length && unclosed <= MAX_UNCLOSED; at++) {
    const character = text.charAt(at);
    if (character === "[" || character === "{") unclosed++;
    else if (character === "]" || character === "}") unclosed = Math.max(0, unclosed - 1);
  }
  return unclosed > MAX_UNCLOSED;
}

function readRoot(reader: Reader): Node | undefined {
  try {
    if (nestsTooDeep(reader.text)) throw new RangeError("nested too deep");
    const document = parseDocument(reader.text, {
      lineCounter: reader.lines,
      prettyErrors: false,
      uniqueKeys: true,
      merge: false,
      schema: "core",
      version: "1.2",
    });
    for (const error of [...document.errors, ...document.warnings]) {
      const hint =
        error.code === "BAD_ALIAS" || error.message.startsWith("Unresolved alias") ? "; a pattern that begins with `*` must be quoted" : "";
      reader.problems.push(problemAt(placeOf(reader, error.pos[0]), `${error.message}${hint}`));
    }
    if (document.contents === null && document.errors.length === 0)
      reader.problems.push(problemAt({ line: 1, column: 1 }, "the file is empty; a policy without rules is `rules: []`"));
    return document.contents ?? undefined;
  } catch (error) {
    // Ours, or the reader's: it recurses, and block lists nested thousands deep end its stack. A bad file, not a defect.
    if (!(error instanceof RangeError)) throw error;
    reader.problems.push(problemAt({ line: 1, column: 1 }, "the file nests too deep to be a policy"));
    return undefined;
  }
}

function readPolicyMap(reader: Reader, map: YAMLMap): Omit<FilePolicy, "problems"> {
  const known = fieldsOf(reader, map, ["extends", "rules", "live", "audit"]);
  const { extends: base, rules, live, audit } = known;
  if (rules === undefined && base === undefined && reader.problems.length === 0) fail(reader, map, "`rules` is missing");
  const name = base === undefined ? undefined : scalarText(reader, base, "`extends` is the name of a preset");
  if (rules !== undefined && !isSeq(rules)) fail(reader, rules, "`rules` is a list");
  const read = isSeq(rules) ? rules.items.flatMap((item) => readRule(reader, item)) : [];
  return {
    rules: read,
    ...(name === undefined || base === undefined ? {} : { extends: { name, place: placeOfNode(reader, base) } }),
    ...optional("live", live === undefined ? undefined : bool(reader, live, "live")),
    ...optional("audit", audit === undefined ? undefined : bool(reader, audit, "audit")),
  };
}

function readRule(reader: Reader, item: unknown): readonly FileRule[] {
  const node = item as Node | null;
  if (!isMap(node)) {
    fail(
      reader,
      node,
      isAlias(node)
        ? "aliases are not part of a policy; a pattern that begins with `*` must be quoted"
        : "a rule is `{ pattern, permission }`",
    );
    return [];
  }
  const { pattern, permission, priority, subtree } = fieldsOf(reader, node, ["pattern", "permission", "priority", "subtree"]);
  if (pattern === undefined || permission === undefined) {
    fail(reader, node, `\`${pattern === undefined ? "pattern" : "permission"}\` is missing`);
    return [];
  }
  const glob = scalarText(reader, pattern, "`pattern` is a text; quote it");
  const level = permissionOf(reader, permission);
  const rank = priority === undefined ? undefined : integer(reader, priority);
  const below = subtree === undefined ? undefined : bool(reader, subtree, "subtree");
  if (glob === undefined || level === undefined) return [];
  const rule: Rule = { pattern: glob, permission: level, ...optional("priority", rank), ...optional("subtree", below) };
  return [{ rule, place: placeOfNode(reader, node), placeAt: (offset) => placeInScalar(reader, pattern, offset) }];
}

function permissionOf(reader: Reader, node: Node): Permission | undefined {
  const level = isScalar(node) ? PERMISSIONS.find((word) => word === node.value) : undefined;
  const spelled = isScalar(node) ? `\`${String(node.value)}\`` : "this";
  return level ?? fail(reader, node, `${spelled} is no permission; write one of ${PERMISSIONS.join(", ")}`);
}

/** The values of `map` by key; a key that is not in `names` is a problem at its own place. */
function fieldsOf<Name extends string>(reader: Reader, map: YAMLMap, names: readonly Name[]): Partial<Record<Name, Node>> {
  const found: Partial<Record<Name, Node>> = {};
  for (const { key, value } of map.items as Pair<Node | null, Node | null>[]) {
    const name = names.find((candidate) => isScalar(key) && key.value === candidate);
    if (name === undefined) {
      const spelled = isScalar(key) ? `\`${String(key.value)}\`` : "this";
      fail(reader, key, `${spelled} is no word of a policy here; write ${names.map((word) => `\`${word}\``).join(", ")}`);
    } else if (value === null) fail(reader, key, `\`${name}\` has no value`);
    else found[name] = value;
  }
  return found;
}

function scalarText(reader: Reader, node: Node, message: string): string | undefined {
  if (isScalar(node) && typeof node.value === "string") return node.value;
  return fail(reader, node, isAlias(node) ? "aliases are not part of a policy; a pattern that begins with `*` must be quoted" : message);
}

function bool(reader: Reader, node: Node, name: string): boolean | undefined {
  if (isScalar(node) && typeof node.value === "boolean") return node.value;
  return fail(reader, node, `\`${name}\` is true or false`);
}

function integer(reader: Reader, node: Node): number | undefined {
  if (isScalar(node) && Number.isSafeInteger(node.value)) return node.value as number;
  return fail(reader, node, "`priority` is a whole number");
}

function optional<Name extends string, Value>(name: Name, value: Value | undefined): Partial<Record<Name, Value>> {
  return value === undefined ? {} : ({ [name]: value } as Partial<Record<Name, Value>>);
}

function fail(reader: Reader, node: Node | null, message: string): undefined {
  reader.problems.push(problemAt(placeOfNode(reader, node), message));
  return undefined;
}

function placeOfNode(reader: Reader, node: Node | null): Place {
  return placeOf(reader, node?.range?.[0] ?? 0);
}

function placeOf(reader: Reader, offset: number): Place {
  const { line, col } = reader.lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** The place of a character of a text. Exact while the text stands as it is written; behind an escape or a fold, its beginning. */
function placeInScalar(reader: Reader, node: Node, offset: number): Place {
  const start = node.range?.[0] ?? 0;
  const value = isScalar(node) && typeof node.value === "string" ? node.value : "";
  const quote = reader.text.charAt(start) === '"' || reader.text.charAt(start) === "'" ? 1 : 0;
  const exact = reader.text.startsWith(value.slice(0, offset + 1), start + quote);
  return placeOf(reader, exact ? start + quote + offset : start);
}
