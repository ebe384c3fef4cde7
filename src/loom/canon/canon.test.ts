// What a canon's files come to, and what is said of broken ones. Pure: texts in, texts out.

import fc from "fast-check";
import { describe, expect } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { canonText, compileCanon } from "./compile.ts";
import { evaluate, parseExpression } from "./expression.ts";

const HEAD = "---\nname: w\nversion: 1\nkind: agent\nvars: { deep: true, n: 3, who: Ada }\n---\n";

function compiled(files: Readonly<Record<string, string>>, vars: Readonly<Record<string, string | number | boolean>> = {}) {
  return compileCanon({ files: new Map(Object.entries(files)), vars: new Map(Object.entries(vars)) });
}

/** The text below `# A` of one file. */
function written(
  body: string,
  more: Readonly<Record<string, string>> = {},
  vars: Readonly<Record<string, string | number | boolean>> = {},
) {
  const canon = compiled({ "main.md": `${HEAD}# A\n${body}`, ...more }, vars);
  expect(canon.problems).toEqual([]);
  return canon.sections[0]?.text;
}

/** `code line:column` of each problem. */
function told(body: string, more: Readonly<Record<string, string>> = {}): readonly string[] {
  const { problems } = compiled({ "main.md": `${HEAD}# A\n${body}`, ...more });
  return problems.map(({ code, file, line, column }) => `${file === "main.md" ? "" : `${file} `}${code} ${line}:${column}`);
}

describe("a canon", () => {
  verifies("loom/canon-sections", "headings of the first level open sections, whole words give them their kind, nothing is lost", () => {
    const text = "above\n# The World\na\n## deeper\n# Metallurgy\nb\n# 基调 #\nc\n# Tone\nd\n# C#\n# 元信息\n- mood: dark\nauthor: Li\n";
    const canon = compiled({ "main.md": `---\nversion: 1\n---\n${text}` });
    expect(canon.sections.map(({ kind, title, place }) => [kind, title, place.line])).toEqual([
      ["custom", "", 4],
      ["world", "The World", 5],
      ["custom", "Metallurgy", 8],
      ["tone", "基调", 10],
      ["tone", "Tone", 12],
      ["custom", "C#", 14],
      ["meta", "元信息", 15],
    ]);
    expect(canon.meta).toEqual({ mood: "dark", author: "Li" });
    expect(canon.problems.map(({ code, line }) => [code, line])).toEqual([["empty-section", 14]]);
    expect(canonText(canon)).toContain("# The World\n\na\n## deeper");
  });

  verifies("loom/canon-fences", "in fenced and inline code nothing is a heading or a directive", () => {
    const code = "~~~\n# no\n{{include:gone}}\n```\n~~~\n`{{use:none}}` ``[@No] ` ``\n```js {{x}}\n{{if:}}\n```\n";
    expect(written(code)).toBe(code);
    expect(told("`{{use:none}}` {{use:none}}\n")).toEqual(["macro-unknown 8:16"]);
    expect(told("```\n# still code\n{{use:none}}")).toEqual([]);
  });

  verifies("loom/canon-include", "an include is the other file's text, by a path from the one that names it or from the folder", () => {
    const more = { "parts/b.md": "B{{include:c.md}}", "parts/c.md": "C{{include:/top.md}}", "top.md": "T" };
    expect(written("x {{include:parts/b.md}} y", more)).toBe("x BCT y");
    expect(
      told("{{include:no.md}}\n{{include:../out.md}}\n{{include:a.md}}", { "a.md": "\n{{include:b.md}}", "b.md": "{{include:a.md}}" }),
    ).toEqual(["b.md include-cycle 1:1", "include-missing 8:1", "include-escape 9:1"]);
    const headings = compiled({ "main.md": `${HEAD}# A\na\n{{include:b.md}}\n`, "b.md": "x\n# B\nb" });
    expect(headings.sections.map(({ title, place }) => [title, place.file, place.line])).toEqual([
      ["A", "main.md", 7],
      ["B", "b.md", 2],
    ]);
  });

  verifies("loom/canon-if", "a condition chooses by variables of the front matter and of the session", () => {
    expect(written("{{if:deep and n > 2}}yes{{else}}no{{endif}}")).toBe("yes");
    expect(written("{{if:deep}}\nyes\n{{else}}\nno\n{{endif}}\n", {}, { deep: false })).toBe("no\n");
    expect(written("{{if:not (who == 'Ada')}}a{{if:deep}}b{{endif}}{{else}}c{{endif}}.")).toBe("c.");
    expect(told("{{if:other}}a{{endif}}{{if:1 +}}b{{endif}}\n{{else}}{{endif}}{{if:deep}}")).toEqual([
      "var-unknown 8:1",
      "expr-bad 8:30",
      "directive-bad 9:1",
      "directive-bad 9:9",
      "if-unclosed 9:18",
    ]);
  });

  verifies("loom/canon-macro", "a macro is written out with its values, which may be those of the macro around it", () => {
    const macros =
      '{{macro:pair(a,b)}}{{a}}+{{b}}{{endmacro}}{{macro:twice(x)}}{{use:pair($x,$x)}}{{endmacro}}{{use:twice("1, 2")}} {{use:pair(深,n)}}';
    expect(written(macros)).toBe("1, 2+1, 2 深+n");
    expect(told("{{macro:a}}{{use:b}}{{endmacro}}{{macro:b}}{{use:a}}{{endmacro}}{{use:a(1)}}{{use:c}}\n{{macro:d}}")).toEqual([
      "macro-cycle 8:44",
      "macro-arity 8:65",
      "macro-unknown 8:77",
      "macro-unclosed 9:1",
    ]);
  });

  verifies("loom/canon-refs", "references name sections that are there; rules have ids; comments are gone", () => {
    const body =
      "see [@a] {{// not this}}and {{who}}.\n{{// nor this}}\n:::rule one\nr\n:::\n[x](y) [@other.md#b]\n{{include:deep/other.md}}";
    expect(written(body, { "deep/other.md": "# B\nb" })).toBe("see a and Ada.\nr\n[x](y) b\n");
    expect(compiled({ "main.md": `${HEAD}# A\n:::rule one\nr\n:::\n` }).rules).toEqual([
      { id: "one", place: { file: "main.md", line: 8, column: 1 } },
    ]);
    expect(told("[@Nowhere] [@b.md#A]\n:::rule x\n:::rule x\n")).toEqual(["rule-unclosed 9:1", "directive-bad 10:1", "rule-unclosed 10:1"]);
  });

  verifies("loom/canon-bounds", "a canon that would blow up is refused, soon and with its place", () => {
    const doubling = Array.from(
      { length: 20 },
      (_, i) => `{{macro:m${i}}}${`{{use:m${i + 1}}}`.repeat(i < 19 ? 9 : 0)}x{{endmacro}}\n`,
    ).join("");
    expect(told(`${doubling}{{use:m0}}`)[0]).toMatch(/^too-large/);
    const long = Array.from({ length: 4000 }, (_, i) => `{{macro:m${i}}}{{use:m${i + 1}}}{{endmacro}}\n`).join("");
    expect(told(`{{use:m0}}${long}{{macro:m4000}}{{endmacro}}`).some((one) => one.startsWith("too-large"))).toBe(true);
    const chain = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`f${i}.md`, i < 11 ? `{{include:f${i + 1}.md}}`.repeat(9) : "x"]),
    );
    expect(told("{{include:f0.md}}", chain).some((one) => one.includes("too-large"))).toBe(true);
    expect(told("{{if:deep}}".repeat(5000)).some((one) => one.startsWith("too-large"))).toBe(true);
    expect(told("x".repeat(4 * 1024 ** 2))).toEqual(["too-large 1:1"]);
    expect(compiled({ "main.md": `---\nname: ${"[".repeat(3000)}\n---\n` }).usable).toBe(false);
  });

  verifies(
    "loom/lint-codes",
    "a front matter with an unknown key or a wrong shape, and missing sections, are told with their places",
    () => {
      const { problems, usable } = compiled({ "main.md": "---\nname: w\ncolour: red\nkind: poem\nvars: {a: [1]}\n---\n# World\n" });
      expect(problems.map(({ code, severity, line, column }) => [code, severity, line, column])).toEqual([
        ["missing-version", "warning", 1, 1],
        ["bad-front-matter", "error", 3, 1],
        ["bad-front-matter", "error", 4, 7],
        ["bad-front-matter", "error", 5, 7],
      ]);
      expect(usable).toBe(false);
      const story = compiled({ "main.md": "---\nversion: 1\nrequired: [Magic]\n---\n# World\n\n# world\nx\n" });
      expect(story.problems.map(({ code, line }) => [code, line])).toEqual([
        ["missing-section", 1],
        ["empty-section", 5],
        ["duplicate-section", 7],
      ]);
      expect(compiled({}).problems[0]).toMatchObject({ code: "include-missing", file: "main.md", line: 1 });
      expect(told("a\n[@Nowhere]\n")).toEqual(["unknown-reference 9:1"]);
    },
  );

  verifies("loom/canon-hash", "the hash changes with every file that the canon stands on, and with no other", () => {
    const files = { "main.md": `${HEAD}# A\n{{include:b.md}}`, "b.md": "b", "c.md": "c" };
    const hash = (more: Readonly<Record<string, string>>) => compiled({ ...files, ...more }).hash;
    expect(hash({ "c.md": "other" })).toBe(hash({}));
    expect(new Set([hash({}), hash({ "b.md": "B" }), hash({ "main.md": `${HEAD}# A\n{{include:b.md}} ` })]).size).toBe(3);
  });

  verifies(
    "loom/canon-any-text",
    "text without directives is kept byte for byte; any text at all ends in a canon or in problems with places",
    () => {
      fc.assert(
        fc.property(fc.array(fc.constantFrom("a", "深", "\n", "`", "~~~", "{", "}", "[", "# B", " ", "[@A]", "\\")), (parts) => {
          const body = parts.join("").replaceAll("{{", "{ {").replaceAll("[@", "[ @").replace(/^#/gm, " #");
          const text = compiled({ "main.md": `${HEAD}# A\n${body}` })
            .sections.map((one) => one.text)
            .join("");
          expect(text).toBe(body.normalize("NFC"));
        }),
        { numRuns: 300 },
      );
      const words = [
        "{{if:",
        "deep",
        "}}",
        "{{else}}",
        "{{endif}}",
        "{{macro:m(a)}}",
        "{{endmacro}}",
        "{{use:m(1)}}",
        "{{a}}",
        "\n",
        "```",
        ":::rule x",
        ":::",
      ];
      fc.assert(
        fc.property(fc.array(fc.constantFrom(...words, "{{include:main.md}}", "{{include:b.md}}", "[@A]")), (parts) => {
          const { usable, problems } = compiled({ "main.md": `${HEAD}# A\nx${parts.join("")}`, "b.md": parts.toReversed().join("") });
          expect(usable).toBe(problems.every(({ severity }) => severity === "warning"));
          for (const { line, column } of problems) expect(line > 0 && column > 0).toBe(true);
        }),
        { numRuns: 500 },
      );
    },
  );

  verifies("loom/canon-expression", "conditions follow their table, and a bad one is told by its place", () => {
    const value = (text: string): unknown => {
      const parsed = parseExpression(text);
      return parsed.ok
        ? evaluate(
            parsed.expression,
            new Map<string, string | number | boolean>([
              ["a", 2],
              ["s", "x"],
            ]),
          )
        : `at ${parsed.at}`;
    };
    const table: readonly (readonly [string, unknown])[] = [
      ["a == 2", true],
      ["a == '2'", false],
      ["a < 10 and s < 'y'", true],
      ["s < 3 or s > 3", false],
      ['not a or s == "x"', true],
      ["not (a and none)", true],
      ["a != 3", true],
      ["-1 < 0.5", true],
      ["", "at 0"],
      ["a ==", "at 4"],
      ["(a", "at 2"],
      ["a b", "at 2"],
      ["a = 1", "at 2"],
      ["not", "at 3"],
      [`${"(".repeat(60)}a`, "at 33"],
    ];
    for (const [text, expected] of table) expect(value(text), text).toBe(expected);
  });
});
