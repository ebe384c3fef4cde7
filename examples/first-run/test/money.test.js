import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCents, parseCents } from "../src/money.js";

test("formats cents for people", () => {
  assert.equal(formatCents(1999), "19.99");
  assert.equal(formatCents(5), "0.05");
  assert.equal(formatCents(-120), "-1.20");
});

test("reads what it wrote", () => {
  for (const cents of [0, 1, 99, 100, 1999, -120]) assert.equal(parseCents(formatCents(cents)), cents);
});

test("refuses what is no amount", () => {
  for (const text of ["", "1.234", "a", "1,50"]) assert.throws(() => parseCents(text), TypeError);
});
