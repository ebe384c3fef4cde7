// The short form of the torture; the long one is `./corral torture`.

import { expect } from "vitest";
import { verifies } from "../verifies.ts";
import { torture } from "./kill-server.ts";

const KILLS = 8;

verifies(
  "faults/kill-server",
  `after each of ${KILLS} kills under load every sandbox that a client was told of goes on, and a graceful end leaves nothing`,
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    try {
      const { kills, stood, adopted, creates } = await torture({ seed, kills: KILLS });
      expect([kills, creates > 0, adopted]).toEqual([KILLS, true, stood]);
    } catch (error) {
      throw new Error(`./corral torture --kills ${KILLS} --seed ${seed}: ${String(error)}`, { cause: error });
    }
  },
  240_000,
);
