// The short form of the fuzzing of the API; the long one is `./corral fuzz`.

import { expect } from "vitest";
import { verifies } from "../verifies.ts";
import { fuzzApi } from "./fuzz.ts";

const SEED = 20_261_129;

verifies(
  "server/fuzz",
  "whatever is asked of the documented API, every answer is documented, none is a failure of the server, and others notice nothing",
  async () => {
    const { requests, neverDone, operations } = await fuzzApi({ seed: SEED, seconds: 5 });
    expect(requests).toBeGreaterThan(100);
    expect(neverDone.length).toBeLessThan((operations * 3) / 4);
  },
  120_000,
);
