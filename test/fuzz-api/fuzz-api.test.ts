// The fuzzing of the API: five seconds in the suite, longer by `./corral fuzz api`.

import { expect } from "vitest";
import { fuzzSeconds, fuzzSeed, tellFigures } from "../fuzz/budget.ts";
import { verifies } from "../verifies.ts";
import { fuzzApi } from "./fuzz.ts";

const SEED = 20_261_129;

verifies(
  "server/fuzz",
  "whatever is asked of the documented API, every answer is documented, none is a failure of the server, and others notice nothing",
  async () => {
    const figures = await fuzzApi({ seed: fuzzSeed(SEED), seconds: fuzzSeconds(5) });
    tellFigures({ ...figures });
    // How many there were is the machine's; that they were of both kinds is ours.
    expect(Object.keys(figures.byStatus)).toEqual(expect.arrayContaining(["200", "400", "404"]));
  },
  120_000,
);
