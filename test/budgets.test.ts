// The budgets that no linter knows: length of files and of C functions, state of modules, names, depth, openings, banned forms.
// Reads sources, runs nothing. Invariant: an exception is a row of EXCEPTIONS with its reason, and a row that nobody needs is an error.

import { basename, dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { codeOf } from "./tools/imports.ts";
import { files, lineAt, read } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 60;
const MAX_DEPTH_BELOW_SRC = 2;

/** `path: problem` of what may stay, and why breaking the budget reads better. */
const EXCEPTIONS: Readonly<Record<string, string>> = {};

/** Folder names that say nothing of what lies in them. */
const EMPTY_NAMES = /^(?:core|common|shared|utils?|lib|types|helpers?|services|managers?|misc)$/;

const BANNED: readonly { readonly form: RegExp; readonly what: string; readonly where: RegExp }[] = [
  { form: /\bexport\s*\*/g, what: "export *", where: /^src\// },
  { form: /\bas any\b|[:<,(|]\s*any\b(?=[\s,;)>\][|=]|$)/gm, what: "any", where: /^(?:src|test|bench)\// },
  { form: /^(?:export )?(?:let|var)\b/gm, what: "mutable state of the module", where: /^src\/(?!.*\.test\.ts$)/ },
  { form: /\b(?:it|test|describe)\.(?:only|todo|skip)\b/g, what: "a test that is switched on or off in the source", where: /\.test\.ts$/ },
  { form: /\bvi\.mock\b/g, what: "a module mock", where: /^(?:src|test|bench|guest)\// },
];
/** Looked for in comments too: there they act. */
const BANNED_WORDS = /eslint-disable|oxlint-disable|@ts-ignore|@ts-nocheck/g;

/** Functions of a C file, by the one style that the guest is written in: a body ends with a brace in the first column. */
function longFunctions(source: string): { readonly line: number; readonly length: number }[] {
  const found: { line: number; length: number }[] = [];
  const lines = source.split("\n");
  let start = -1;
  for (const [index, line] of lines.entries()) {
    if (/^[A-Za-z_].*\)\s*\{$|^\{$/.test(line)) start = index;
    if (line.startsWith("}") && start >= 0) {
      if (index - start + 1 > MAX_FUNCTION_LINES) found.push({ line: start + 1, length: index - start + 1 });
      start = -1;
    }
  }
  return found;
}

function bannedForms(path: string, source: string): string[] {
  const found: string[] = [];
  const code = codeOf(source);
  for (const { form, what, where } of BANNED) {
    if (!where.test(path)) continue;
    for (const match of code.matchAll(form)) found.push(`${path}:${lineAt(source, match.index)} ${what}`);
  }
  for (const match of source.matchAll(BANNED_WORDS)) found.push(`${path}:${lineAt(source, match.index)} ${match[0]}`);
  return found;
}

/** What one source file breaks. */
function problemsOf(path: string, source: string): string[] {
  const found: string[] = [];
  const length = source.split("\n").length - 1;
  const typescript = path.endsWith(".ts");
  if (length > MAX_FILE_LINES) found.push(`${path}: more than ${MAX_FILE_LINES} lines (${length})`);
  if (typescript) found.push(...bannedForms(path, source));
  else for (const long of longFunctions(source)) found.push(`${path}:${long.line} a function of ${long.length} lines`);
  if (!path.endsWith(".test.ts") && !/^(?:\/\/|\/\*|#)/.test(source)) found.push(`${path}: does not open with what it is`);
  if (!/^[a-z0-9]+(?:[-.][a-z0-9]+)*$/.test(basename(path))) found.push(`${path}: a file's name is kebab-case`);
  const folders = dirname(path).split("/");
  for (const folder of folders) if (EMPTY_NAMES.test(folder)) found.push(`${path}: a folder named ${folder}`);
  if (folders[0] === "src" && folders.length - 1 > MAX_DEPTH_BELOW_SRC)
    found.push(`${path}: deeper than ${MAX_DEPTH_BELOW_SRC} folders below src`);
  return found;
}

describe("budgets", () => {
  verifies("house/budgets", "files, functions, names and forms stay within the budgets", () => {
    const paths = files("src/**/*.ts", "test/**/*.ts", "bench/**/*.ts", "guest/**/*.{ts,c,h,sh}");
    const found = paths.flatMap((path) => (path === "test/budgets.test.ts" ? [] : problemsOf(path, read(path))));
    const excused = Object.keys(EXCEPTIONS);
    expect(found.filter((problem) => !excused.some((row) => problem.startsWith(row)))).toEqual([]);
    expect(excused.filter((row) => !found.some((problem) => problem.startsWith(row)))).toEqual([]);
  });

  it("sees each planted breach", () => {
    const planted = [
      'export * from "./x.ts";',
      "let state = 0;",
      "const a = b as any; // eslint-disable-line",
      "function f(x: any, y: Map<string, any>): void {}",
      '// any: `as any` in words, "let" too',
      'const company = "x: any;";',
    ].join("\n");
    expect(problemsOf("src/a/b/c/Bad_Name.ts", planted)).toEqual([
      "src/a/b/c/Bad_Name.ts:1 export *",
      "src/a/b/c/Bad_Name.ts:3 any",
      "src/a/b/c/Bad_Name.ts:4 any",
      "src/a/b/c/Bad_Name.ts:4 any",
      "src/a/b/c/Bad_Name.ts:2 mutable state of the module",
      "src/a/b/c/Bad_Name.ts:3 eslint-disable",
      "src/a/b/c/Bad_Name.ts: does not open with what it is",
      "src/a/b/c/Bad_Name.ts: a file's name is kebab-case",
      "src/a/b/c/Bad_Name.ts: deeper than 2 folders below src",
    ]);
    const body = "  x();\n".repeat(MAX_FUNCTION_LINES);
    expect(problemsOf("guest/long.c", `// C\nstatic int f(int a)\n{\n${body}}\nint g(void) {\n  x();\n}\n`)).toEqual([
      `guest/long.c:3 a function of ${MAX_FUNCTION_LINES + 2} lines`,
    ]);
    expect(problemsOf("src/utils/a.ts", "// fine\n".repeat(MAX_FILE_LINES + 1))).toEqual([
      `src/utils/a.ts: more than ${MAX_FILE_LINES} lines (${MAX_FILE_LINES + 1})`,
      "src/utils/a.ts: a folder named utils",
    ]);
  });
});
