// A canon's files as one text: includes put in, conditions decided, macros written out, comments gone. Not sections: those are sections.ts.
// Invariant: pure and bounded: the same files and variables give the same text; a cycle, a missing file or a blow-up is a problem with its
// place, and every piece of the text knows the file and line it came from.

import { posix } from "node:path";
import { type CanonValue, evaluate, truth, variablesOf } from "./expression.ts";
import { type Macro, type Node, type ParsedFile, parseFile, type RuleBlock } from "./parse.ts";
import type { CanonFiles, Place, Problems } from "./source.ts";

export interface Piece {
  readonly text: string;
  /** Of its first character. */
  readonly place: Place;
}

export interface Expanded {
  readonly pieces: readonly Piece[];
  readonly rules: readonly RuleBlock[];
  /** References to sections, to be found when those are known. */
  readonly references: readonly Extract<Node, { kind: "reference" }>[];
  /** Files that it stands on. */
  readonly files: readonly string[];
}

export interface ExpandRequest {
  readonly files: CanonFiles;
  /** Path of the first file; `body` is what is left of it behind its front matter. */
  readonly entry: { readonly file: string; readonly body: string; readonly line: number };
  readonly vars: ReadonlyMap<string, CanonValue>;
  readonly problems: Problems;
}

const MAX_FILE_BYTES = 4 * 1024 ** 2;
const MAX_EXPANDED = 8 * 1024 ** 2;
const MAX_EXPANSIONS = 10_000;
const MAX_INCLUDE_DEPTH = 8;
const MAX_MACRO_DEPTH = 32;

export function expand(request: ExpandRequest): Expanded {
  return new Expander(request).run();
}

class Expander {
  readonly #request: ExpandRequest;
  readonly #parsed = new Map<string, ParsedFile>();
  readonly #macros = new Map<string, Macro>();
  readonly #pieces: Piece[] = [];
  readonly #references: Extract<Node, { kind: "reference" }>[] = [];
  readonly #heights = new Map<string, number>();
  #length = 0;
  #macroDepth = 0;
  #expansions = 0;
  #full = false;

  constructor(request: ExpandRequest) {
    this.#request = request;
  }

  run(): Expanded {
    const { entry, problems } = this.#request;
    this.#read(entry.file, entry.body, entry.line);
    this.#reach(entry.file, []);
    for (const { macros } of this.#parsed.values()) for (const macro of macros) this.#define(macro);
    for (const { nodes, macros } of this.#parsed.values()) {
      this.#check(nodes, []);
      for (const { body, parameters } of macros) this.#check(body, parameters);
    }
    this.#macroCycles();
    const rules = [...this.#parsed.values()].flatMap((one) => one.rules);
    for (const [i, { id, place }] of rules.entries())
      if (rules.findIndex((other) => other.id === id) !== i) problems.error("directive-bad", place, `the rule ${id} stands twice`);
    // What cannot be whole is not written out: it might not end.
    if (!problems.failed) this.#write(this.#parsed.get(entry.file)?.nodes ?? [], new Map());
    return { pieces: this.#pieces, rules, references: this.#references, files: [...this.#parsed.keys()].sort() };
  }

  #read(file: string, text: string, line = 1): ParsedFile {
    const { problems } = this.#request;
    const place = { file, line: 1, column: 1 };
    const large = Buffer.byteLength(text) > MAX_FILE_BYTES;
    if (large) problems.error("too-large", place, `the file is larger than ${MAX_FILE_BYTES} bytes`);
    const parsed = large ? { nodes: [], macros: [], rules: [] } : parseFile(file, text, problems, line);
    this.#parsed.set(file, parsed);
    return parsed;
  }

  /** Reads all that can be included, whatever the conditions say. How deep includes nest below the file. */
  #reach(file: string, chain: readonly string[]): number {
    const known = this.#heights.get(file);
    if (known !== undefined) return known;
    const { problems, files } = this.#request;
    const parsed = this.#parsed.get(file) ?? this.#read(file, files.get(file) ?? "");
    const here = [...chain, file];
    let height = 0;
    for (const node of every([...parsed.nodes, ...parsed.macros.flatMap(({ body }) => body)])) {
      const target = node.kind === "include" ? this.#target(node) : undefined;
      if (target === undefined) continue;
      if (here.includes(target))
        problems.error("include-cycle", node.place, [...here.slice(here.indexOf(target)), target].join(" includes "));
      else if (here.length > MAX_INCLUDE_DEPTH || this.#reach(target, here) >= MAX_INCLUDE_DEPTH)
        problems.error("too-large", node.place, `includes nest deeper than ${MAX_INCLUDE_DEPTH}`);
      else height = Math.max(height, 1 + (this.#heights.get(target) ?? 0));
    }
    this.#heights.set(file, height);
    return height;
  }

  #target({ path, place }: Extract<Node, { kind: "include" }>): string | undefined {
    const { files, problems } = this.#request;
    const target = posix.normalize(path.startsWith("/") ? path.slice(1) : posix.join(posix.dirname(place.file), path));
    if (target.startsWith("..") || target.startsWith("/")) {
      problems.error("include-escape", place, `${path} lies outside of the world's folder`);
      return undefined;
    }
    if (files.has(target)) return target;
    problems.error("include-missing", place, `there is no file ${target}`);
    return undefined;
  }

  #define(macro: Macro): void {
    if (this.#macros.has(macro.name)) this.#request.problems.error("directive-bad", macro.place, `the macro ${macro.name} stands twice`);
    else this.#macros.set(macro.name, macro);
  }

  /** What is wrong in either branch of a condition, before any is taken. */
  #check(nodes: readonly Node[], parameters: readonly string[]): void {
    const { problems, vars } = this.#request;
    for (const node of every(nodes)) {
      if (node.kind === "if") {
        for (const { name } of variablesOf(node.when))
          if (!vars.has(name))
            problems.error("var-unknown", node.place, `there is no variable ${name}; the front matter's \`vars\` gives it a value`);
      } else if (node.kind === "use") this.#checkUse(node);
      else if (node.kind === "name" && !parameters.includes(node.name) && !vars.has(node.name))
        problems.warn("directive-bad", node.place, `{{${node.name}}} is no directive, parameter or variable; it stays in the text`);
    }
  }

  #checkUse({ name, values, place }: Extract<Node, { kind: "use" }>): void {
    const { problems } = this.#request;
    const macro = this.#macros.get(name);
    if (macro === undefined) problems.error("macro-unknown", place, `there is no macro ${name}`);
    else if (macro.parameters.length !== values.length)
      problems.error("macro-arity", place, `the macro ${name} takes ${macro.parameters.length} values, and here are ${values.length}`);
  }

  #macroCycles(): void {
    const state = new Map<string, "open" | "done">();
    const visit = (macro: Macro, depth: number): void => {
      state.set(macro.name, "open");
      if (depth > MAX_MACRO_DEPTH) this.#request.problems.error("too-large", macro.place, `macros nest deeper than ${MAX_MACRO_DEPTH}`);
      for (const node of every(macro.body)) {
        const used = node.kind === "use" ? this.#macros.get(node.name) : undefined;
        if (used === undefined) continue;
        if (state.get(used.name) === "open")
          this.#request.problems.error("macro-cycle", node.place, `the macro ${used.name} uses itself, here by ${macro.name}`);
        else if (!state.has(used.name) && depth <= MAX_MACRO_DEPTH) visit(used, depth + 1);
      }
      state.set(macro.name, "done");
    };
    for (const macro of this.#macros.values()) if (!state.has(macro.name)) visit(macro, 0);
  }

  #write(nodes: readonly Node[], values: ReadonlyMap<string, string>): void {
    for (const node of nodes) {
      if (this.#full) return;
      switch (node.kind) {
        case "text":
          this.#emit(node.text, node.place);
          break;
        case "include":
          if (this.#counts(node.place)) this.#write(this.#parsed.get(this.#target(node) ?? "")?.nodes ?? [], new Map());
          break;
        case "if":
          this.#write(truth(evaluate(node.when, this.#request.vars)) ? node.met : node.otherwise, values);
          break;
        case "use":
          this.#use(node, values);
          break;
        case "name":
          this.#emit(values.get(node.name) ?? this.#variable(node.name) ?? `{{${node.name}}}`, node.place);
          break;
        case "reference":
          this.#references.push(node);
          this.#emit(node.section, node.place);
          break;
      }
    }
  }

  #variable(name: string): string | undefined {
    const value = this.#request.vars.get(name);
    return value === undefined ? undefined : String(value);
  }

  #use({ name, values: given, place }: Extract<Node, { kind: "use" }>, outer: ReadonlyMap<string, string>): void {
    const macro = this.#macros.get(name);
    if (macro === undefined || !this.#counts(place)) return;
    // A value that is a parameter of the macro around it stands for that one's value.
    const value = (written: string): string => outer.get(/^\$(.*)$/u.exec(written)?.[1] ?? "") ?? written;
    if (this.#macroDepth >= MAX_MACRO_DEPTH) return this.#stop(place, `macros nest deeper than ${MAX_MACRO_DEPTH}`);
    this.#macroDepth += 1;
    this.#write(macro.body, new Map(macro.parameters.map((parameter, i) => [parameter, value(given[i] ?? "")])));
    this.#macroDepth -= 1;
  }

  #counts(place: Place): boolean {
    this.#expansions += 1;
    if (this.#expansions > MAX_EXPANSIONS) this.#stop(place, `more than ${MAX_EXPANSIONS} includes and macros are written out`);
    return !this.#full;
  }

  #emit(text: string, place: Place): void {
    this.#length += text.length;
    if (this.#length > MAX_EXPANDED) return this.#stop(place, `the canon written out is longer than ${MAX_EXPANDED} characters`);
    this.#pieces.push({ text, place });
  }

  #stop(place: Place, message: string): void {
    if (!this.#full) this.#request.problems.error("too-large", place, message);
    this.#full = true;
  }
}

/** Every node, those in both branches of a condition too. Conditions nest within bounds. */
function* every(nodes: readonly Node[]): Generator<Node> {
  for (const node of nodes) {
    yield node;
    if (node.kind !== "if") continue;
    yield* every(node.met);
    yield* every(node.otherwise);
  }
}
