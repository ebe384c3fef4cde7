// The papers against the tree: every path, link and command that they name exists, they keep their length, none says a sentence twice.
// Reads papers and names, runs no sample (test/readme.test.ts does). Invariant: a paper cannot name what is gone.

import { existsSync, globSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";
import { files, lineAt, read, ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const PAPERS = files("*.md", "docs/**/*.md", "guest/*.md", "bench/*.md", "test/**/*.md", "examples/*.md");

/** Longest a paper may be, in lines: what is longer is not read. */
const MAX_LINES: Readonly<Record<string, number>> = { "README.md": 120, "README.zh.md": 120, "ARCHITECTURE.md": 150, "AGENTS.md": 80 };

/** Sentences shorter than this may be said twice. */
const SENTENCE_LENGTH = 60;

/** Top folders and files that a path in a paper begins with, when it is meant from the root. */
const FROM_ROOT =
  /^(?:src|guest|test|bench|docs|examples|npm|web)\/|^\.ci\/|^corral$|^[A-Z]+(?:\.zh)?\.md$|^(?:package|package-lock|tsconfig|biome|knip)\.json$/;

/** Paths in backticks and what links lead to, each with its place. */
function named(paper: string, whole: string): { readonly path: string; readonly line: number }[] {
  const text = whole.replace(/^- `[^`]+`/gm, (id) => " ".repeat(id.length)); // ids of promises look like paths
  const found: { path: string; line: number }[] = [];
  for (const match of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)|<img[^>]* src="([^"]+)"/g)) {
    const target = match[1] ?? match[2] ?? "";
    if (!/^[a-z]+:/.test(target)) found.push({ path: normalize(join(dirname(paper), target)), line: lineAt(text, match.index) });
  }
  for (const match of text.matchAll(/`([^`\n]+)`/g)) {
    const path = match[1] ?? "";
    if (FROM_ROOT.test(path) && !/[\s<>…]/.test(path)) found.push({ path: path.replace(/\/$/, ""), line: lineAt(text, match.index) });
  }
  return found;
}

/** Whether a path or pattern names something of the checkout. `guest/build` is made by the set-up. */
function isThere(path: string): boolean {
  if (path.startsWith("guest/build")) return true;
  return /[*{]/.test(path) ? globSync(path, { cwd: ROOT }).length > 0 : existsSync(join(ROOT, path));
}

/** Words that may follow `./corral`: the launcher's own, and the commands of the program. */
function commandWords(): Set<string> {
  const launcher = [...read("corral").matchAll(/^ {2}(\w+)\) shift && exec/gm)];
  const program = [
    ...["cli", "noun-commands", "content-commands", "code-commands", "loom-commands"]
      .map((name) => read(`src/cli/${name}.ts`))
      .join("")
      .matchAll(/\.command\("(\w+)/g),
  ];
  return new Set([...launcher, ...program].map((match) => match[1] ?? ""));
}

/** Commands of a paper: `./corral WORD` and `npm run NAME`. */
function commandsOf(text: string): { readonly command: string; readonly line: number }[] {
  return [
    ...text.matchAll(/(?:\.\/)?\bcorral ([a-z]+)\b(?=[^`\n]*`)|^[ \t]*(?:\$ )?(?:sudo )?\.\/corral ([a-z]+)\b|npm run ([\w:-]+)/gm),
  ].map((match) => ({
    command: match[3] === undefined ? `corral ${match[1] ?? match[2]}` : `npm run ${match[3]}`,
    line: lineAt(text, match.index),
  }));
}

/** Sentences of a paper's prose: no code, no tables' rules, no headings. */
function sentencesOf(text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```$/gm, "").replace(/^(?: {4}|#|!).*$/gm, "");
  return prose
    .split(/(?<=[.!?。！？:])\s+|\n\s*\n|\n[-|]|\|/)
    .map((sentence) => sentence.replace(/\s+/g, " ").trim())
    .filter((sentence) => sentence.length >= SENTENCE_LENGTH);
}

function repeated(papers: ReadonlyMap<string, string>): string[] {
  const first = new Map<string, string>();
  const found: string[] = [];
  for (const [paper, text] of papers) {
    for (const sentence of sentencesOf(text)) {
      const other = first.get(sentence);
      if (other === undefined) first.set(sentence, paper);
      else found.push(`${paper} repeats ${other}: ${sentence}`);
    }
  }
  return found;
}

/** What one paper names that is not there. */
function missing(paper: string, text: string): string[] {
  const words = commandWords();
  const scripts = Object.keys((JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts);
  const known = (command: string): boolean => {
    const [program = "", word = "", name = ""] = command.split(" ");
    return program === "npm" ? scripts.includes(name) : words.has(word);
  };
  return [
    ...named(paper, text)
      .filter(({ path }) => !isThere(path))
      .map(({ path, line }) => `${paper}:${line} names ${path}`),
    ...commandsOf(text)
      .filter(({ command }) => !known(command))
      .map(({ command, line }) => `${paper}:${line} names the command ${command}`),
  ];
}

/** The lines of a paper that a reader would type. */
function typedLines(text: string): string[] {
  return [...text.matchAll(/^(?:\$ )?((?:sudo )?(?:\.\/corral|npm|git) .*)$/gm)]
    .map((match) => (match[1] ?? "").replace(/\s+#.*$/, ""))
    .sort();
}

describe("papers", () => {
  verifies("house/papers-name-what-is", "every path, link and command that a paper names is there", () => {
    expect(PAPERS.length).toBeGreaterThan(5);
    expect(PAPERS.flatMap((paper) => missing(paper, read(paper)))).toEqual([]);
  });

  it("sees a planted path, link, picture, command and script that are not there", () => {
    const planted =
      'See `src/gone/` and `src/api/`, [x](docs/gone.md), [y](https://example.com/z), <img src="gone.svg">.\n\n    ./corral dance now\n\n`corral run x` `corral sing`, npm run nothing\n';
    expect(missing("PLANTED.md", planted)).toEqual([
      "PLANTED.md:1 names docs/gone.md",
      "PLANTED.md:1 names gone.svg",
      "PLANTED.md:1 names src/gone",
      "PLANTED.md:3 names the command corral dance",
      "PLANTED.md:5 names the command corral sing",
      "PLANTED.md:5 names the command npm run nothing",
    ]);
  });

  verifies("house/papers-short", "papers keep to their length", () => {
    const long = Object.entries(MAX_LINES).filter(([paper, max]) => read(paper).split("\n").length - 1 > max);
    expect(long.map(([paper]) => paper)).toEqual([]);
  });

  verifies("house/papers-once", "no sentence stands in two papers", () => {
    expect(repeated(new Map(PAPERS.map((paper) => [paper, read(paper)])))).toEqual([]);
  });

  it("sees a sentence that stands twice, over a line break too", () => {
    const one = "# A\n\nThe last matching rule wins and no matching rule means that nothing is seen. Short.\n";
    const two = "Short. The last matching rule wins and no\nmatching rule means that nothing is seen.\n";
    expect(
      repeated(
        new Map([
          ["A.md", one],
          ["B.md", two],
        ]),
      ),
    ).toHaveLength(1);
  });

  verifies("house/readmes-agree", "both READMEs name the same commands and paths", () => {
    const [english, chinese] = [read("README.md"), read("README.zh.md")];
    expect(typedLines(chinese)).toEqual(typedLines(english));
    const targets = (paper: string, text: string): string[] =>
      [...new Set(named(paper, text).map(({ path }) => path))].filter((path) => !path.startsWith("README")).sort();
    expect(targets("README.zh.md", chinese)).toEqual(targets("README.md", english));
  });
});
