import assert from "node:assert/strict";
import { test } from "node:test";
import { splitByWeight, splitEvenly } from "../src/split.js";

const sum = (shares) => shares.reduce((total, share) => total + share, 0);

test("splits evenly what can be split evenly", () => {
  assert.deepEqual(splitEvenly(1000, 4), [250, 250, 250, 250]);
});

test("loses no cent", () => {
  for (const people of [1, 2, 3, 6, 7, 11]) assert.equal(sum(splitEvenly(1000, people)), 1000);
});

test("gives nobody more than one cent more than another", () => {
  const shares = splitEvenly(1000, 7);
  assert.ok(Math.max(...shares) - Math.min(...shares) <= 1);
});

test("loses no cent by weight", () => {
  assert.equal(sum(splitByWeight(999, [1, 2, 4])), 999);
});

test("refuses weights that add up to nothing", () => {
  assert.throws(() => splitByWeight(100, [0, 0]), RangeError);
});
