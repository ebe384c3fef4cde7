// The short form of the fuzzing of the API; the long one is `./corral fuzz`.

import { expect } from "vitest";
import { verifies } from "../verifies.ts";
import { fuzzApi } from "./fuzz.ts";

const SEED = 20_261_129;

verifies(
  "server/fuzz",
  "whatever is asked of the documented API, every answer is documented, none is a failure of the server, and others notice nothing",
  async () => {
    const { byStatus } = await fuzzApi({ seed: SEED, seconds: 5 });
    // How many there were is the machine's; that they were of both kinds is ours.
    expect(Object.keys(byStatus)).toEqual(expect.arrayContaining(["200", "400", "404"]));
  },
  120_000,
);
