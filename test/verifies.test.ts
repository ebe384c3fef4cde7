// The promise tie itself: a bad id is refused at once, a good one becomes part of the test's name.

import { expect, it } from "vitest";
import { PROMISE_ID, verifies } from "./verifies.ts";

verifies("house/promise-ids", "the name of a test that proves a promise begins with the promise's id", ({ task }) => {
  expect(task.name.startsWith("[house/promise-ids] ")).toBe(true);
});

it("refuses an id that SPEC.md could not hold", () => {
  for (const id of ["", "policy", "policy/", "/x", "Policy/x", "policy/x y", "policy/x/y"]) {
    expect(PROMISE_ID.test(id), id).toBe(false);
    expect(() => verifies(id, "never registered", () => {})).toThrow(/is no promise id/);
  }
});
