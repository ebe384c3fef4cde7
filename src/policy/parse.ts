// Reads a policy file: one rule a line (`.corralpolicy`), YAML or JSON. It opens no file and judges no path.
// Invariant: a file with an error gives no policy, only problems with line and column. It never leaves a line out.

import { MAX_POLICY_BYTES, MAX_POLICY_DOCUMENT_BYTES } from "../api/limits.ts";
import type { Policy, PolicyProblem } from "../api/policy.ts";
import { readDocument } from "./parse-document.ts";
import { readLines } from "./parse-lines.ts";
import { problemAt, type FilePolicy, type FileRule, type Place } from "./place.ts";
import { isPresetName, preset, PRESET_NAMES } from "./presets.ts";
import { readRules } from "./rules.ts";

export type PolicyFormat = "lines" | "yaml" | "json";

export interface ParseOptions {
  /** Absent: told by the first line that is not empty or a comment. */
  readonly format?: PolicyFormat;
  /** The codebase has an entry `workspace` in its root, so that patterns may begin with `/workspace`. Default false. */
  readonly hasWorkspaceEntry?: boolean;
}

export interface ParsedPolicy {
  /** Absent when there is an error. */
  readonly policy?: Policy;
  readonly problems: readonly PolicyProblem[];
  /** For each rule of `policy` its place in the file; `undefined` for the rules of a preset that the file extends. */
  readonly places: readonly (Place | undefined)[];
  /** The preset that the file extends, with its version. */
  readonly extends?: string;
  /** Where in `policy.rules` an allowance of the command line goes: before what the preset hides. Absent without `extends`. */
  readonly allowAt?: number;
}

export function parsePolicy(text: string, options: ParseOptions = {}): ParsedPolicy {
  const format = options.format ?? formatOf(text);
  const most = format === "lines" ? MAX_POLICY_BYTES : MAX_POLICY_DOCUMENT_BYTES;
  if (text.length > most) {
    const hint = format === "lines" ? "" : "; one rule a line may be longer";
    return { problems: [problemAt({ line: 1, column: 1 }, `the file is longer than ${most} bytes${hint}`)], places: [] };
  }
  const source = text.startsWith("\ufeff") ? text.slice(1) : text;
  const file = format === "lines" ? readLines(source) : readDocument(source, format);
  const problems = [...file.problems, ...extendsProblems(file), ...patternProblems(file.rules, options.hasWorkspaceEntry ?? false)];
  if (problems.some((problem) => problem.severity === "error")) return { problems: problems.toSorted(byPlace), places: [] };
  return assemble(file, problems);
}

function assemble(file: FilePolicy, problems: readonly PolicyProblem[]): ParsedPolicy {
  const base = file.extends === undefined ? undefined : preset(file.extends.name);
  const inherited = base === undefined ? [] : [...base.open, ...base.hidden];
  const policy: Policy = {
    rules: [...inherited, ...file.rules.map(({ rule }) => rule)],
    ...(base === undefined || base.dirs.length === 0 ? {} : { dirs: base.dirs }),
    ...(file.live === undefined ? {} : { live: file.live }),
    ...(file.audit === undefined ? {} : { audit: file.audit }),
  };
  const places = [...inherited.map(() => undefined), ...file.rules.map(({ place }) => place)];
  return { policy, problems, places, ...(base === undefined ? {} : { extends: base.id, allowAt: base.open.length }) };
}

function byPlace(a: PolicyProblem, b: PolicyProblem): number {
  return a.line - b.line || a.column - b.column;
}

/** Fixed expressions over our own words; no pattern of a user is ever compiled to one. */
function formatOf(text: string): PolicyFormat {
  const first =
    text
      .slice(0, 65_536)
      .split("\n")
      .map((line) => line.replace(/^\ufeff/, "").trim())
      .find((line) => line !== "" && !line.startsWith("#")) ?? "";
  if (first.startsWith("{") || first.startsWith("[")) return "yaml";
  return /^(---|%YAML|-(\s|$)|["']?[a-z]+["']?\s*:)/i.test(first) ? "yaml" : "lines";
}

function extendsProblems(file: FilePolicy): readonly PolicyProblem[] {
  if (file.extends === undefined) return [];
  const { name, place } = file.extends;
  if (!isPresetName(name)) return [problemAt(place, `\`${name}\` is no preset; presets are ${PRESET_NAMES.join(", ")}`)];
  try {
    preset(name);
    return [];
  } catch (error) {
    return [problemAt(place, error instanceof Error ? error.message : String(error))];
  }
}

function patternProblems(rules: readonly FileRule[], hasWorkspaceEntry: boolean): readonly PolicyProblem[] {
  const read = readRules(rules.map(({ rule }) => rule));
  const malformed = read.problems.map(({ index, offset, message }) => {
    const rule = rules[index];
    const place = rule === undefined ? { line: 1, column: 1 } : offset === undefined ? rule.place : rule.placeAt(offset);
    return problemAt(place, message);
  });
  if (hasWorkspaceEntry) return malformed;
  const mounted = read.rules.flatMap(({ index, pattern }) => {
    const [first] = pattern.segments;
    const rule = rules[index];
    if (rule === undefined || first?.kind !== "literal" || first.name !== "workspace") return [];
    const rest = rule.rule.pattern.slice("/workspace".length) || "/";
    return [
      problemAt(
        rule.placeAt(0),
        `\`/workspace\` is where the codebase is mounted, not a part of its paths, so this matches nothing; write \`${rest}\``,
      ),
    ];
  });
  return [...malformed, ...mounted];
}
