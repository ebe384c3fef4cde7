// The surface of src/api, compared with the list that is committed. Not about behaviour. Invariant: nothing enters or leaves the
// contract unseen: a change shows as a change of test/surface.txt (`./corral check --fix` writes it).

import { expect } from "vitest";
import { surface } from "./tools/surface.ts";
import { verifies } from "./verifies.ts";

verifies("house/api-surface", "src/api exports exactly what test/surface.txt lists", async () => {
  await expect(surface()).toMatchFileSnapshot("surface.txt");
});
