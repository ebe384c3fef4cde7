// The line format of `.corralpolicy`: `PERMISSION PATTERN`, one rule a line, `#` begins a comment, `extends PRESET` may come first.
// It reads places and words; patterns are read by pattern.ts.
// Invariant: every line is empty, a comment, a rule or a problem. Nothing is guessed: what looks like two patterns is refused.

import { PERMISSIONS, type Permission, type PolicyProblem } from "../api/policy.ts";
import { problemAt, type FilePolicy, type FileRule, type Place } from "./place.ts";

export function readLines(text: string): FilePolicy {
  const rules: FileRule[] = [];
  const problems: PolicyProblem[] = [];
  let base: FilePolicy["extends"];
  for (const [index, line] of text.split("\n").entries()) {
    const words = wordsOf(line.endsWith("\r") ? line.slice(0, -1) : line);
    const [first, second, third] = words;
    if (first === undefined) continue;
    const place = (word: Word): Place => ({ line: index + 1, column: word.at + 1 });
    if (first.text !== "extends" && !isPermission(first.text)) {
      problems.push(problemAt(place(first), `\`${first.text}\` is no permission; write one of ${PERMISSIONS.join(", ")}, then a pattern`));
    } else if (second === undefined) {
      problems.push(
        problemAt(
          { line: index + 1, column: first.at + first.text.length + 1 },
          `a ${first.text === "extends" ? "preset" : "pattern"} must follow \`${first.text}\``,
        ),
      );
    } else if (third !== undefined) {
      problems.push(problemAt(place(third), "a line holds one pattern; a space in a name is `\\ `"));
    } else if (isPermission(first.text)) {
      const problem = quoted(second.text)
        ? problemAt(place(second), "this format has no quotes; a literal quote is `\\\"` or `\\'`")
        : undefined;
      if (problem !== undefined) problems.push(problem);
      rules.push({
        rule: { pattern: second.text, permission: first.text },
        place: place(first),
        placeAt: (offset) => ({ line: index + 1, column: second.at + offset + 1 }),
      });
    } else if (base !== undefined || rules.length > 0) {
      problems.push(problemAt(place(first), "`extends` stands once, before all rules: the rules after it win over the preset's"));
    } else base = { name: second.text, place: place(second) };
  }
  return { rules, problems, ...(base === undefined ? {} : { extends: base }) };
}

interface Word {
  readonly text: string;
  /** Offset in the line. */
  readonly at: number;
}

/** The words of a line up to a comment. Blanks are space and tab; `\` keeps the character after it in the word. */
function wordsOf(line: string): readonly Word[] {
  const words: Word[] = [];
  for (let at = 0; at < line.length; ) {
    if (isBlank(line, at)) {
      at++;
      continue;
    }
    // A comment begins a word, so that `/a#b` stays a path; a name that begins with `#` is written `\#`.
    if (line.charAt(at) === "#") break;
    let end = at;
    while (end < line.length && !isBlank(line, end)) end += line.charAt(end) === "\\" ? 2 : 1;
    words.push({ text: line.slice(at, end), at });
    at = end;
  }
  return words;
}

function isBlank(line: string, at: number): boolean {
  return line.charAt(at) === " " || line.charAt(at) === "\t";
}

function isPermission(word: string): word is Permission {
  return (PERMISSIONS as readonly string[]).includes(word);
}

function quoted(text: string): boolean {
  return text.length > 1 && (text.startsWith('"') || text.startsWith("'")) && text.endsWith(text.charAt(0));
}
