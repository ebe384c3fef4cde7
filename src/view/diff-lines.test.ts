import fc from "fast-check";
import { expect, it } from "vitest";
import { diffLines } from "./diff-lines.ts";

const lines = fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 60 });

function kept(all: readonly number[], marks: Uint8Array): number[] {
  return all.filter((_, index) => marks[index] === 0);
}

/** Length of the longest common subsequence, by the table. */
function longestCommon(a: readonly number[], b: readonly number[]): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    const next = [0];
    b.forEach((y, j) => next.push(x === y ? (row[j] ?? 0) + 1 : Math.max(row[j + 1] ?? 0, next[j] ?? 0)));
    row = next;
  }
  return row[b.length] ?? 0;
}

it("what is not marked is the same on both sides, and as much as can be", () => {
  fc.assert(
    fc.property(lines, lines, (a, b) => {
      const { gone, made } = diffLines(Int32Array.from(a), Int32Array.from(b));
      expect(kept(a, gone)).toEqual(kept(b, made));
      expect(kept(a, gone)).toHaveLength(longestCommon(a, b));
    }),
    { numRuns: 3_000 },
  );
});

it("with little work allowed the answer is coarser and still right", () => {
  fc.assert(
    fc.property(lines, lines, fc.integer({ min: 0, max: 200 }), (a, b, steps) => {
      const { gone, made } = diffLines(Int32Array.from(a), Int32Array.from(b), steps);
      expect(kept(a, gone)).toEqual(kept(b, made));
    }),
    { numRuns: 2_000 },
  );
});

it("two texts of 200,000 lines without a line in common end within the work allowed", () => {
  const a = Int32Array.from({ length: 200_000 }, (_, i) => i);
  const b = Int32Array.from({ length: 200_000 }, (_, i) => i + 200_000);
  const { gone, made } = diffLines(a, b);
  expect([gone.every((mark) => mark === 1), made.every((mark) => mark === 1)]).toEqual([true, true]);
});
