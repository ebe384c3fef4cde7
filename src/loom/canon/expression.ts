// Conditions of a canon: variables, strings, numbers, `== != < > and or not ( )`. Not a language: no calls, no arithmetic, no assignment.
// Invariant: what parses can be evaluated, always ends, and unlike kinds are never equal, smaller or greater.

export type CanonValue = string | number | boolean;

export type Expression =
  | { readonly kind: "value"; readonly value: CanonValue }
  | { readonly kind: "variable"; readonly name: string; readonly at: number }
  | { readonly kind: "not"; readonly of: Expression }
  | { readonly kind: "and" | "or" | "==" | "!=" | "<" | ">"; readonly left: Expression; readonly right: Expression };

export type Parsed =
  | { readonly ok: true; readonly expression: Expression }
  /** `at`: offset in the text. */
  | { readonly ok: false; readonly at: number; readonly message: string };

interface Token {
  readonly kind: "word" | "value" | "sign" | "end";
  readonly text: string;
  readonly value?: CanonValue;
  readonly at: number;
}

const TOKEN =
  /\s*(?:(?<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<number>-?\d+(?:\.\d+)?)(?![\p{L}\p{N}_])|(?<word>[\p{L}_][\p{L}\p{N}_.-]*)|(?<sign>==|!=|[<>()]))/uy;
/** Deeper nesting is refused. */
const MAX_DEPTH = 32;

class Refused extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

export function parseExpression(text: string): Parsed {
  try {
    const reader = new Reader(tokensOf(text));
    const expression = reader.or(0);
    reader.demand("end", "");
    return { ok: true, expression };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { ok: false, at: error.at, message: error.message };
  }
}

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.trimEnd().length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw new Refused(at + (/^\s*/.exec(text.slice(at))?.[0].length ?? 0), "no value, name or sign begins here");
    const { string, number, word, sign } = match.groups ?? {};
    const shown = string ?? number ?? word ?? sign ?? "";
    const start = match.index + match[0].length - shown.length;
    if (string !== undefined) tokens.push({ kind: "value", text: shown, value: string.slice(1, -1).replace(/\\(.)/gu, "$1"), at: start });
    else if (number !== undefined) tokens.push({ kind: "value", text: shown, value: Number(number), at: start });
    else if (word === "true" || word === "false") tokens.push({ kind: "value", text: shown, value: word === "true", at: start });
    else tokens.push({ kind: word === undefined ? "sign" : "word", text: shown, at: start });
    at = TOKEN.lastIndex;
  }
  return [...tokens, { kind: "end", text: "", at: text.length }];
}

class Reader {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  or(depth: number): Expression {
    let left = this.#and(depth);
    while (this.#takes("word", "or")) left = { kind: "or", left, right: this.#and(depth) };
    return left;
  }

  demand(kind: Token["kind"], text: string): void {
    if (!this.#takes(kind, text)) throw new Refused(this.#peek().at, text === "" ? "this does not belong here" : `"${text}" is missing`);
  }

  #and(depth: number): Expression {
    let left = this.#not(depth);
    while (this.#takes("word", "and")) left = { kind: "and", left, right: this.#not(depth) };
    return left;
  }

  #not(depth: number): Expression {
    if (depth > MAX_DEPTH) throw new Refused(this.#peek().at, `nested deeper than ${MAX_DEPTH}`);
    return this.#takes("word", "not") ? { kind: "not", of: this.#not(depth + 1) } : this.#compared(depth);
  }

  #compared(depth: number): Expression {
    const left = this.#single(depth);
    for (const kind of ["==", "!=", "<", ">"] as const) if (this.#takes("sign", kind)) return { kind, left, right: this.#single(depth) };
    return left;
  }

  #single(depth: number): Expression {
    const token = this.#peek();
    if (this.#takes("sign", "(")) {
      const inner = this.or(depth + 1);
      this.demand("sign", ")");
      return inner;
    }
    this.#next += 1;
    if (token.value !== undefined) return { kind: "value", value: token.value };
    if (token.kind === "word" && !["and", "or", "not"].includes(token.text)) return { kind: "variable", name: token.text, at: token.at };
    throw new Refused(token.at, "a value or a name is missing");
  }

  #peek(): Token {
    return this.#tokens[Math.min(this.#next, this.#tokens.length - 1)] ?? { kind: "end", text: "", at: 0 };
  }

  #takes(kind: Token["kind"], text: string): boolean {
    const token = this.#peek();
    const taken = token.kind === kind && token.text === text;
    if (taken) this.#next += 1;
    return taken;
  }
}

/** A name that has no value counts as `false`. */
export function evaluate(expression: Expression, vars: ReadonlyMap<string, CanonValue>): CanonValue {
  switch (expression.kind) {
    case "value":
      return expression.value;
    case "variable":
      return vars.get(expression.name) ?? false;
    case "not":
      return !truth(evaluate(expression.of, vars));
    case "and":
      return truth(evaluate(expression.left, vars)) && truth(evaluate(expression.right, vars));
    case "or":
      return truth(evaluate(expression.left, vars)) || truth(evaluate(expression.right, vars));
    default: {
      const [left, right] = [evaluate(expression.left, vars), evaluate(expression.right, vars)];
      if (expression.kind === "==") return left === right;
      if (expression.kind === "!=") return left !== right;
      return typeof left === typeof right && (expression.kind === "<" ? left < right : left > right);
    }
  }
}

/** Empty text, 0 and `false` are not. */
export function truth(value: CanonValue): boolean {
  return value !== "" && value !== 0 && value !== false;
}

/** Names that an expression asks for, each with its offset. */
export function variablesOf(expression: Expression): readonly { readonly name: string; readonly at: number }[] {
  if (expression.kind === "variable") return [expression];
  if (expression.kind === "value") return [];
  return expression.kind === "not" ? variablesOf(expression.of) : [...variablesOf(expression.left), ...variablesOf(expression.right)];
}
