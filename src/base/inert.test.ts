import { verifies } from "../../test/verifies.ts";
import { expect, it } from "vitest";
import { inert, inertLines } from "./inert.ts";

verifies("cli/inert-names", "a name with escapes, newlines, C1, bidi or invisible characters is spelled out, not obeyed", () => {
  expect(inert("a\x1b]52;c;x\x07b\nc\u009b5i\u202egpj.exe\u200bé漢🐎")).toBe(
    "a\\x1b]52;c;x\\x07b\\x0ac\\x9b5i\\u{202e}gpj.exe\\u{200b}é漢🐎",
  );
  expect(inert("a\u2066b\u2029c\ufeff")).toBe("a\\u{2066}b\\u{2029}c\\u{feff}");
  expect(inert("\ud800 \u{e0041}")).toBe("\\u{d800} \\u{e0041}");
});

it("a text of lines keeps its newlines and tabs alone", () => {
  expect(inertLines("+a\tb\n+\x1b[2Jc\r\n")).toBe("+a\tb\n+\\x1b[2Jc\\x0d\n");
});
