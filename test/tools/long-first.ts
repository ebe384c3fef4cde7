// The order of the test files. Invariant: what takes long begins first, so that no core waits for the other at the end of a run.

import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The longest first; the order of what is not named is the runner's own. A name that fits no file is harmless. */
const LONG = [
  "test/conformance/client-remote.test.ts",
  "test/conformance/client-local.test.ts",
  "guest/test/fuzz.test.ts",
  "test/e2e/cli.test.ts",
  "test/e2e/serve.test.ts",
  "src/view/commit-crash.test.ts",
  "src/view/delta.property.test.ts",
  "test/e2e/config.test.ts",
  "test/security/security.test.ts",
  "src/view/delta-bomb.test.ts",
];

function place({ moduleId }: TestSpecification): number {
  const found = LONG.findIndex((name) => moduleId.endsWith(`/${name}`));
  return found === -1 ? LONG.length : found;
}

export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const usual = await super.sort(files);
    return usual.toSorted((a, b) => place(a) - place(b));
  }
}
