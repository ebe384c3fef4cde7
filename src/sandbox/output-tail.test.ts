import { describe, expect, it } from "vitest";
import { OutputTail } from "./output-tail.ts";

/** All that can be read from `offset`, by stream, and the offset of the first byte. */
function read(tail: OutputTail, offset: number): { readonly first: number | undefined; readonly text: string } {
  let text = "";
  let first: number | undefined;
  for (let piece = tail.at(offset); piece !== undefined; piece = tail.at(offset)) {
    first ??= piece.offset;
    text += Buffer.from(piece.bytes).toString("latin1");
    offset = piece.offset + piece.bytes.length;
  }
  return { first, text };
}

describe("the tail of a process's output", () => {
  it("gives bytes by their offset, with their streams, from the offset that it began with", () => {
    const tail = new OutputTail(1_000, 50);
    tail.add("stdout", Buffer.from("abc"));
    tail.add("stderr", Buffer.from("de"));
    tail.add("stderr", Buffer.from("f"));
    tail.add("stdout", Buffer.from("g"));
    expect([tail.from, tail.to]).toEqual([50, 57]);
    expect(tail.at(50)).toMatchObject({ stream: "stdout", offset: 50, bytes: Buffer.from("abc") });
    expect(tail.at(54)).toMatchObject({ stream: "stderr", offset: 54, bytes: Buffer.from("ef") });
    expect(tail.at(57)).toBeUndefined();
    expect(tail.at(3)).toMatchObject({ offset: 50 });
    expect(read(tail, 51)).toEqual({ first: 51, text: "bcdefg" });
  });

  it("keeps no more than its limit, and what it gave out does not change", () => {
    const tail = new OutputTail(100_000, 0);
    let written = "";
    let given: Uint8Array | undefined;
    for (let n = 0; n < 400; n++) {
      const chunk = String(n)
        .padStart(4, "0")
        .repeat(1 + (n % 700));
      tail.add(n % 3 === 0 ? "stderr" : "stdout", Buffer.from(chunk));
      written += chunk;
      given ??= tail.at(0)?.bytes;
      expect(tail.to).toBe(written.length);
      expect(tail.to - tail.from).toBeLessThanOrEqual(100_000);
      // One page at most is given up at once.
      expect(tail.to - tail.from).toBeGreaterThanOrEqual(Math.min(written.length, 100_000 - 16 * 1024));
    }
    expect(read(tail, 0)).toEqual({ first: tail.from, text: written.slice(tail.from) });
    expect(Buffer.from(given ?? []).toString()).toBe("0000");
  });

  it("is bounded in pieces for a process that alternates its streams byte by byte", () => {
    const tail = new OutputTail(1_000_000, 0);
    for (let n = 0; n < 50_000; n++) tail.add(n % 2 === 0 ? "stdout" : "stderr", Buffer.from([n % 256]));
    expect(tail.to - tail.from).toBeLessThanOrEqual(8_192);
    expect(read(tail, tail.from).text.length).toBe(tail.to - tail.from);
  });
});
