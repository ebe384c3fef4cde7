import fc from "fast-check";
import { expect, it } from "vitest";
import { runs } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { type FilterMode, TerminalFilter } from "./terminal-filter.ts";

function filtered(mode: FilterMode, ...chunks: (string | Uint8Array)[]): string {
  const filter = new TerminalFilter(mode);
  const out = chunks.map((chunk) => filter.feed(typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk));
  return Buffer.concat([...out, filter.end()]).toString("utf8");
}

const ACTING: readonly (readonly [string, string])[] = [
  ["clipboard, ended by BEL", "\x1b]52;c;ZXZpbA==\x07"],
  ["clipboard, ended by ST", "\x1b]52;c;ZXZpbA==\x1b\\"],
  ["a title report", "\x1b[21t"],
  ["a window resize", "\x1b[8;10;10t"],
  ["DECRQSS", '\x1bP$q"p\x1b\\'],
  ["a tmux passthrough", "\x1bPtmux;\x1b\x1b]52;c;ZXZpbA==\x07\x1b\\"],
  ["a colour question", "\x1b]11;?\x07"],
  ["an iTerm file", "\x1b]1337;File=name=eA==:eA==\x07"],
  ["a notification", "\x1b]777;notify;a;b\x07"],
  ["APC", "\x1b_Gq\x1b\\"],
  ["PM", "\x1b^x\x1b\\"],
  ["SOS", "\x1bXx\x1b\\"],
  ["DECID", "\x1bZ"],
  ["media copy", "\x1b[5i"],
  ["answerback", "\x05"],
];

verifies("cli/terminal-acts", "what acts on the terminal's owner is taken out of a program's output, with a pty and without", () => {
  for (const mode of ["pty", "strict"] as const) {
    for (const [name, sequence] of ACTING) expect([mode, name, filtered(mode, `a${sequence}b`)]).toEqual([mode, name, "ab"]);
  }
});

it("a C1 control is replaced, raw, as UTF-8 or over-long", () => {
  for (const mode of ["pty", "strict"] as const) {
    expect(filtered(mode, Uint8Array.of(0x9b, 0x35, 0x69))).toBe("?5i");
    expect(filtered(mode, "a\u009b5ib")).toBe("a?5ib");
    expect(filtered(mode, Uint8Array.of(0xe0, 0x82, 0x9b, 0x61))).toBe("?a");
  }
});

it("with a pty, drawing, cursor and titles pass", () => {
  const text =
    "\x1b[2J\x1b[1;31mred\x1b[0m\x1b]0;is this a title?\x07\x1b[?1049h\x1b[6n\x1b(B\x1b]8;;https://x/?q\x1b\\link\x1b]8;;\x1b\\ž 漢 🐎\r\n\x1b[22;0t";
  expect(filtered("pty", text)).toBe(text);
});

it("with a pty a line feed without a return keeps its column, which the terminal's own mode would not", () => {
  expect(filtered("pty", "a\r\nb\nc\r\n\n", "\r", "\n")).toBe("a\r\nb\x1bDc\r\n\x1bD\r\n");
  expect(filtered("strict", "a\nb")).toBe("a\nb");
});

it("strict leaves colours and text, nothing else", () => {
  expect(filtered("strict", "\x1b[1;31mred\x1b[0m\x1b[2J\x1b]0;t\x07\x1bc\x07\tž 漢\r\n\u202eabc")).toBe(
    "\x1b[1;31mred\x1b[0m\tž 漢\r\n?abc",
  );
});

it("after the program ended, the modes it left on are turned off, and only those", () => {
  const filter = new TerminalFilter("pty");
  filter.feed(Buffer.from("\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?2004l\x1b[?7h"));
  expect(filter.restore()).toBe("\x1b[?1049l\x1b[?25h\x1b[0m\x1b(B\x0f\x1b>");
});

it("cutting the stream anywhere changes nothing, and filtering twice changes nothing", () => {
  const piece = fc.oneof(
    fc.constantFrom(...ACTING.map(([, sequence]) => sequence)),
    fc.constantFrom("\x1b", "\x1b[", "\x1b]", "\x1b]0;", "\x07", "\x1b\\", "?", ";", "m", "1", "\x18", "é", "漢", "\u009b", "\u202e"),
    fc.string(),
  );
  const stream = fc.array(piece, { maxLength: 20 }).map((pieces) => Buffer.from(pieces.join("")));
  const raw = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(stream, raw), fc.constantFrom<FilterMode>("pty", "strict"), (bytes, mode) => {
      const whole = filtered(mode, bytes);
      expect(filtered(mode, ...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toBe(whole);
      expect(filtered(mode, whole)).toBe(whole);
      expect(whole).not.toMatch(mode === "strict" ? /[\u0080-\u009f]|\x1b(?!\[[0-9;:]*m)/ : /[\u0080-\u009f]|\x1b[P_^XZ]|\x1b\]52/);
    }),
    runs(3000),
  );
});

it("a sequence without end is bounded in memory and dropped", () => {
  const filter = new TerminalFilter("pty");
  for (let i = 0; i < 50; i++)
    expect(filter.feed(Buffer.from(`\x1b]0;${"x".repeat(i === 0 ? 10 : 0)}`.slice(i === 0 ? 0 : 4) + "y".repeat(1000))).length).toBe(0);
  expect(Buffer.from(filter.feed(Buffer.from("\x07after"))).toString()).toBe("after");
});
