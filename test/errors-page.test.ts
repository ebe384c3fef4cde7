// docs/errors.md against the table of codes. Invariant: no code is missing there and no dead code stands there.

import { expect } from "vitest";
import { errorsPage } from "./tools/errors-page.ts";
import { verifies } from "./verifies.ts";

verifies("house/errors-page", "docs/errors.md is what the table of codes says", async () => {
  await expect(errorsPage()).toMatchFileSnapshot("../docs/errors.md");
});
