// Where a text stops being JSON. JSON.parse judges; it does not always say where, so this finds the place for the message.
// Invariant: it is only asked about texts that JSON.parse refused, and never decides what is taken.

/** One token of JSON at the place where it is tried; white space in front belongs to it. */
const TOKEN =
  /[ \t\n\r]*(?:("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)|([[\]{},:]))/;

/** What may come next. */
type Expected = "value" | "value or ]" | "key" | "key or }" | "colon" | "comma or end";

interface Scan {
  /** Open brackets. */
  readonly open: string[];
  expected: Expected;
}

/** The offset of the first token that JSON does not allow there, or the end of the text. */
export function jsonProblemAt(text: string): number {
  const scan: Scan = { open: [], expected: "value" };
  const token = new RegExp(TOKEN, "y");
  const blank = /[ \t\n\r]*/y;
  for (let end = 0; ; end = token.lastIndex) {
    token.lastIndex = end;
    const match = token.exec(text);
    blank.lastIndex = end;
    blank.exec(text);
    if (match === null) return blank.lastIndex;
    const kind = match[1] !== undefined ? "string" : match[2] !== undefined ? "scalar" : (match[3] ?? "");
    if (!accepts(scan, kind)) return blank.lastIndex;
  }
}

function accepts(scan: Scan, kind: string): boolean {
  const { open, expected } = scan;
  const closes = (kind === "]" && open.at(-1) === "[") || (kind === "}" && open.at(-1) === "{");
  if (closes) {
    open.pop();
    scan.expected = "comma or end";
    return expected === "comma or end" || expected === (kind === "]" ? "value or ]" : "key or }");
  }
  switch (expected) {
    case "value":
    case "value or ]":
      if (kind === "[" || kind === "{") open.push(kind);
      scan.expected = kind === "[" ? "value or ]" : kind === "{" ? "key or }" : "comma or end";
      return kind === "[" || kind === "{" || kind === "string" || kind === "scalar";
    case "key":
    case "key or }":
      scan.expected = "colon";
      return kind === "string";
    case "colon":
      scan.expected = "value";
      return kind === ":";
    case "comma or end":
      scan.expected = open.at(-1) === "{" ? "key" : "value";
      return kind === "," && open.length > 0;
  }
}
