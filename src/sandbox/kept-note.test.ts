import { describe, expect, it } from "vitest";
import { readNote, writeNote } from "./kept-note.ts";

const NOW = 1_000_000;

describe("the note of a kept command", () => {
  it("tells a command as it was given, or the beginning of one that is too long, in any characters", () => {
    for (const command of ["echo é", ["a", "", "b\nc"], "\u0000\ud800"]) {
      const note = writeNote({ command, startedAt: 5 });
      expect(note).not.toContain("\0");
      expect(readNote(note, NOW)).toEqual({ command, startedAt: 5 });
    }
    for (const long of ["x".repeat(100_000), "\u0001".repeat(100_000), "😀".repeat(50_000), Array.from({ length: 5_000 }, () => "word")]) {
      const note = writeNote({ command: long, startedAt: 5 });
      expect(Buffer.byteLength(note)).toBeLessThanOrEqual(4_096);
      const { command } = readNote(note, NOW);
      expect(command).toMatch(/…$/);
    }
  });

  it("is as if nothing had been said when hostile code wrote it anew", () => {
    const lies = [
      "",
      "null",
      "[]",
      "{}",
      '{"command":5,"startedAt":5}',
      '{"command":["a",5],"startedAt":5}',
      '{"command":"a","startedAt":1e99}',
    ];
    for (const lie of lies) expect(readNote(lie, NOW)).toEqual({ command: "(unknown)", startedAt: NOW });
  });
});
