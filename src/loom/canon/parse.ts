// One file of a canon as a tree: text, and the directives in it. Not what they come to: that is expand.ts. A directive lies within one line;
// in fenced and inline code nothing is one. Invariant: every byte of the file is in the tree once, and what is wrong has its place.

import { type Expression, parseExpression } from "./expression.ts";
import type { Place, Problems } from "./source.ts";

export type Node =
  | { readonly kind: "text"; readonly text: string; readonly place: Place }
  | { readonly kind: "include"; readonly path: string; readonly place: Place }
  | { readonly kind: "if"; readonly when: Expression; readonly met: Node[]; readonly otherwise: Node[]; readonly place: Place }
  | { readonly kind: "use"; readonly name: string; readonly values: readonly string[]; readonly place: Place }
  /** `{{name}}`: a parameter where a macro has one of that name, else the text it is. */
  | { readonly kind: "name"; readonly name: string; readonly place: Place }
  | { readonly kind: "reference"; readonly file: string | undefined; readonly section: string; readonly place: Place };

export interface Macro {
  readonly name: string;
  readonly parameters: readonly string[];
  readonly body: Node[];
  readonly place: Place;
}

/** A block that can be named. */
export interface RuleBlock {
  readonly id: string;
  readonly place: Place;
}

export interface ParsedFile {
  readonly nodes: readonly Node[];
  readonly macros: readonly Macro[];
  readonly rules: readonly RuleBlock[];
}

/** Space, backtick, tilde. */
const MAY_FENCE = new Set([32, 96, 126]);

/** Whether a line opens or closes fenced code; keeps the fence that is open. */
export class Fences {
  #open: string | undefined;

  /** True for each line of fenced code, its fences included. */
  covers(line: string): boolean {
    // Nearly every line ends here.
    if (this.#open === undefined && !MAY_FENCE.has(line.charCodeAt(0))) return false;
    const mark = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line.trimEnd());
    const [, run = "", rest = ""] = mark ?? [];
    if (this.#open !== undefined) {
      if (run.startsWith(this.#open) && rest.trim() === "") this.#open = undefined;
      return true;
    }
    if (mark === null || (run.startsWith("`") && rest.includes("`"))) return false;
    this.#open = run;
    return true;
  }
}

const NAME = "[\\p{L}_][\\p{L}\\p{N}_-]*";
const MACRO = new RegExp(`^macro:(${NAME})(?:\\((.*)\\))?$`, "u");
const USE = new RegExp(`^use:(${NAME})(?:\\((.*)\\))?$`, "u");
const SINGLE = new RegExp(`^${NAME}$`, "u");
/** Longer directives and references are refused; real ones are a line. */
const MAX_DIRECTIVE = 4_096;
const MAX_NESTING = 64;
const RULE = /^:::rule[ \t]+([\p{L}\p{N}_.-]+)[ \t]*$/u;

interface Frame {
  readonly kind: "file" | "then" | "else" | "macro";
  readonly nodes: Node[];
  readonly place: Place;
  readonly branch?: Extract<Node, { kind: "if" }>;
}

export function parseFile(file: string, text: string, problems: Problems, firstLine = 1): ParsedFile {
  return new FileParser(file, problems).parse(text, firstLine);
}

class FileParser {
  readonly #file: string;
  readonly #problems: Problems;
  readonly #macros: Macro[] = [];
  readonly #rules: RuleBlock[] = [];
  readonly #frames: Frame[];
  #rule: RuleBlock | undefined;
  #source = "";
  /** The stretch of text that waits to become a node. */
  #from = -1;
  #to = -1;
  #place: Place;

  constructor(file: string, problems: Problems) {
    this.#file = file;
    this.#problems = problems;
    const place = { file, line: 1, column: 1 };
    this.#frames = [{ kind: "file", nodes: [], place }];
    this.#place = place;
  }

  parse(text: string, firstLine: number): ParsedFile {
    const fences = new Fences();
    this.#source = text;
    let line = firstLine;
    for (let from = 0; from < text.length; line += 1) {
      const end = text.indexOf("\n", from);
      const next = end < 0 ? text.length : end + 1;
      const whole = text.slice(from, next);
      const place = { file: this.#file, line, column: 1 };
      if (fences.covers(whole) || !mayMark(whole)) this.#text(from, next, place);
      else this.#line(whole, from, place);
      from = next;
    }
    this.#flush();
    for (const { kind, place } of this.#frames.slice(1))
      if (kind === "macro") this.#problems.error("macro-unclosed", place, "this macro has no {{endmacro}}");
      else this.#problems.error("if-unclosed", place, "this condition has no {{endif}}");
    if (this.#rule !== undefined)
      this.#problems.error("rule-unclosed", this.#rule.place, `the rule ${this.#rule.id} is not closed by ":::"`);
    return { nodes: this.#frames[0]?.nodes ?? [], macros: this.#macros, rules: this.#rules };
  }

  /** `start`: where the line begins in the file. */
  #line(whole: string, start: number, first: Place): void {
    if (whole.startsWith(":::") && this.#ruleLine(whole.trimEnd(), first)) return;
    const marks = marksOf(whole);
    const alone = marks.length === 1 && whole.trim() === marks[0]?.written && isBlock(marks[0]);
    let from = 0;
    const text = (upTo: number): void => {
      // A directive that stands alone and leaves nothing behind takes its line along.
      if (!alone) this.#text(start + from, start + upTo, { ...first, column: from + 1 });
    };
    for (const mark of marks) {
      const place = { ...first, column: mark.at + 1 };
      text(mark.at);
      from = mark.at;
      if (mark.body.length > MAX_DIRECTIVE)
        this.#problems.error("directive-bad", place, `a directive is longer than ${MAX_DIRECTIVE} characters`);
      else if (mark.kind === "reference") this.#reference(mark.body, place);
      else if (!this.#directive(mark, place)) continue;
      from = mark.at + mark.written.length;
    }
    text(whole.length);
  }

  #ruleLine(line: string, place: Place): boolean {
    if (line === ":::" && this.#rule !== undefined) {
      this.#rule = undefined;
      return true;
    }
    const id = RULE.exec(line)?.[1];
    if (id === undefined) return false;
    if (this.#rule !== undefined)
      this.#problems.error("rule-unclosed", this.#rule.place, `the rule ${this.#rule.id} is open when ${id} begins`);
    this.#rule = { id, place };
    this.#rules.push(this.#rule);
    return true;
  }

  /** False: it is none, and stays as text. */
  #directive({ body, written }: Mark, place: Place): boolean {
    const text = body.trim();
    if (text.startsWith("//")) return true;
    const macro = MACRO.exec(text);
    const use = USE.exec(text);
    if (text.startsWith("include:")) this.#push({ kind: "include", path: text.slice(8).trim(), place });
    else if (text.startsWith("if:")) this.#openIf(text.slice(3), { ...place, column: place.column + written.indexOf(":") + 1 }, place);
    else if (text === "else") this.#else(place);
    else if (text === "endif") this.#endIf(place);
    else if (macro !== null) this.#openMacro(macro[1] ?? "", macro[2], place);
    else if (text === "endmacro") this.#endMacro(place);
    else if (use !== null) this.#push({ kind: "use", name: use[1] ?? "", values: argumentsOf(use[2] ?? ""), place });
    else if (SINGLE.test(text)) this.#push({ kind: "name", name: text, place });
    else {
      this.#problems.warn("directive-bad", place, `${shortened(written)} is no directive; it stays in the text`);
      return false;
    }
    return true;
  }

  #reference(written: string, place: Place): void {
    const at = written.indexOf("#");
    const [file, section] = at < 0 ? [undefined, written] : [written.slice(0, at).trim(), written.slice(at + 1)];
    this.#push({ kind: "reference", file, section: section.trim(), place });
  }

  #openIf(written: string, at: Place, place: Place): void {
    if (this.#frames.length > MAX_NESTING) return this.#problems.error("too-large", place, `conditions nest deeper than ${MAX_NESTING}`);
    const parsed = parseExpression(written);
    if (!parsed.ok)
      this.#problems.error("expr-bad", { ...at, column: at.column + parsed.at }, `the condition cannot be read: ${parsed.message}`);
    const when: Expression = parsed.ok ? parsed.expression : { kind: "value", value: false };
    const branch: Extract<Node, { kind: "if" }> = { kind: "if", when, met: [], otherwise: [], place };
    this.#push(branch);
    this.#frames.push({ kind: "then", nodes: branch.met, place, branch });
  }

  #else(place: Place): void {
    const frame = this.#frames.at(-1);
    if (frame?.kind !== "then" || frame.branch === undefined)
      return this.#problems.error("directive-bad", place, "{{else}} without {{if:…}}");
    this.#flush();
    this.#frames.pop();
    this.#frames.push({ kind: "else", nodes: frame.branch.otherwise, place: frame.place });
  }

  #endIf(place: Place): void {
    const kind = this.#frames.at(-1)?.kind;
    if (kind !== "then" && kind !== "else") return this.#problems.error("directive-bad", place, "{{endif}} without {{if:…}}");
    this.#flush();
    this.#frames.pop();
  }

  #openMacro(name: string, written: string | undefined, place: Place): void {
    this.#flush();
    const parameters = argumentsOf(written ?? "");
    if (this.#frames.some(({ kind }) => kind === "macro"))
      this.#problems.error("directive-bad", place, `the macro ${name} begins inside of another`);
    for (const bad of parameters.filter((one, i) => !SINGLE.test(one) || parameters.indexOf(one) !== i))
      this.#problems.error("directive-bad", place, `${shortened(bad)} is no name for a parameter, or stands twice`);
    const macro: Macro = { name, parameters, body: [], place };
    this.#macros.push(macro);
    this.#frames.push({ kind: "macro", nodes: macro.body, place });
  }

  #endMacro(place: Place): void {
    if (this.#frames.at(-1)?.kind !== "macro") return this.#problems.error("directive-bad", place, "{{endmacro}} without {{macro:…}}");
    this.#flush();
    this.#frames.pop();
  }

  #push(node: Node): void {
    this.#flush();
    this.#frames.at(-1)?.nodes.push(node);
  }

  /** A stretch of the file. What goes on where the last one ended is one text with it. */
  #text(from: number, to: number, place: Place): void {
    if (from === to) return;
    if (this.#to !== from) {
      this.#flush();
      this.#from = from;
      this.#place = place;
    }
    this.#to = to;
  }

  #flush(): void {
    if (this.#to > this.#from)
      this.#frames.at(-1)?.nodes.push({ kind: "text", text: this.#source.slice(this.#from, this.#to), place: this.#place });
    this.#from = this.#to = -1;
  }
}

/** Whether a line can hold a directive, a reference or the border of a rule. */
function mayMark(line: string): boolean {
  return line.includes("{{") || line.includes("[@") || line.startsWith(":::");
}

interface Mark {
  readonly kind: "directive" | "reference";
  readonly at: number;
  readonly written: string;
  /** Between its brackets. */
  readonly body: string;
}

/** Directives and references of a line; what inline code covers is none. One pass: a canon may be hostile. */
function marksOf(line: string): readonly Mark[] {
  const marks: Mark[] = [];
  const closing = codeEnds(line);
  const none = new Set<string>();
  let from = 0;
  for (const { 0: opening, index } of line.matchAll(/`+|\{\{|\[@/g)) {
    if (index < from || none.has(opening)) continue;
    if (opening.startsWith("`")) {
      from = closing.get(index) ?? from;
      continue;
    }
    const close = opening === "{{" ? "}}" : "]";
    const end = line.indexOf(close, index + 2);
    if (end < 0) {
      none.add(opening);
      continue;
    }
    from = end + close.length;
    const kind = opening === "{{" ? "directive" : "reference";
    marks.push({ kind, at: index, written: line.slice(index, from), body: line.slice(index + 2, end) });
  }
  return marks;
}

/** Where the inline code ends that begins at a run of backticks: behind the next run of the same length. */
function codeEnds(line: string): ReadonlyMap<number, number> {
  const ends = new Map<number, number>();
  if (!line.includes("`")) return ends;
  const next = new Map<number, number>();
  for (const { 0: run, index } of [...line.matchAll(/`+/g)].reverse()) {
    const end = next.get(run.length);
    if (end !== undefined) ends.set(index, end);
    next.set(run.length, index + run.length);
  }
  return ends;
}

/** Directives that leave nothing where they stand. */
function isBlock({ kind, body }: Mark): boolean {
  return kind === "directive" && /^\s*(?:\/\/|if:|else\s*$|endif\s*$|macro:|endmacro\s*$)/.test(body.slice(0, 100));
}

/** Split at commas outside of quotes. */
function argumentsOf(written: string): readonly string[] {
  if (written.trim() === "") return [];
  return [...`${written},`.matchAll(/\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*,/gu)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? "").trim() : quoted.replace(/\\(.)/gu, "$1"),
  );
}

function shortened(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
