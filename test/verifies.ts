// Ties a test to a promise of SPEC.md: `verifies("policy/hidden-path-enoent", "a hidden path looks as if it did not exist", fn)`.
// Not a test runner of its own: it is vitest's `it` with the promise's id in front of the name, so that a failing line names
// the promise that broke. test/spec.test.ts reads these calls from the source and compares them with SPEC.md.
// Invariant: an id is written as a string literal at the call; an id that is computed could not be found.

import { it, type TestFunction } from "vitest";
import { LONGER_MS } from "./fuzz/budget.ts";

/** `area/promise`, both in kebab-case. */
export const PROMISE_ID = /^[a-z]+(?:-[a-z0-9]+)*\/[a-z0-9]+(?:-[a-z0-9]+)*$/;

/**
 * Registers a test that proves the promise `id`. A test that cannot run here calls `context.skip("reason")`: the reason is printed
 * and counted by the runner, and a skip without one fails the run.
 */
export function verifies(id: string, name: string, fn: TestFunction, timeout?: number): void {
  if (!PROMISE_ID.test(id)) throw new Error(`verifies: ${JSON.stringify(id)} is no promise id; write area/promise-name as SPEC.md does`);
  it(`[${id}] ${name}`, fn, timeout === undefined ? undefined : timeout + LONGER_MS);
}
