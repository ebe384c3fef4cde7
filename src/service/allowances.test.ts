// What is told of a sandbox that does not stop: bounded in number, and nothing uncounted.

import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { Allowances } from "./allowances.ts";

verifies("egress/audit-bounded", "a flood is told a few times at once and then once in a while, with the number of all before", () => {
  let now = 0;
  const rows = new Allowances({ wallMs: () => 0, monotonicMs: () => now }, 20, 10_000);
  const told: number[] = [];
  for (; now < 100_000; now += 10) {
    const before = rows.spend("sb-loud", 3);
    if (before !== undefined) told.push(3 + before);
  }
  expect(told).toHaveLength(20 + 9);
  now = 110_000;
  const last = rows.spend("sb-loud", 3) ?? 0;
  expect(told.reduce((sum, count) => sum + count, 0) + last).toBe(3 * 10_000);
  expect(rows.spend("sb-quiet")).toBe(0);
});
