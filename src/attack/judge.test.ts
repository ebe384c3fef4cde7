// How an attempt and its control become a result: no row is held by anything less than both halves and its control.

import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { CorralError } from "../api/errors.ts";
import { CATALOGUE } from "./catalogue.ts";
import { verdict } from "./judge.ts";
import { PLANNED } from "./planned.ts";

const CLOSED = { error: undefined, outside: "intact", failure: undefined, weakenings: [] } as const;
const REACHED = { ...CLOSED, error: new Error("the secret came out\nand more") };

verifies("security/told-truly", "held needs the attempt to fail inside and outside and its control to succeed", () => {
  expect(verdict({}, CLOSED)).toEqual({ result: "held" });
  expect(verdict({}, REACHED)).toEqual({ result: "breached", reason: "the secret came out and more" });
  expect(verdict({}, { ...CLOSED, outside: "changed" })).toMatchObject({ result: "breached" });
  expect(verdict({}, { ...CLOSED, failure: "no such call" })).toMatchObject({ result: "void" });
  // A breach is a breach, whatever its control did.
  expect(verdict({}, { ...REACHED, failure: "no such call" })).toMatchObject({ result: "breached" });
  expect(verdict({}, { ...CLOSED, error: new CorralError("runtime_unavailable", "none") })).toMatchObject({ result: "void" });
});

verifies("security/told-truly", "what is known to be open fails when it is found closed", () => {
  expect(verdict({ open: "covert channels" }, REACHED)).toEqual({ result: "open", reason: "not promised: covert channels" });
  expect(verdict({ open: "covert channels" }, CLOSED)).toMatchObject({ result: "breached" });
  expect(verdict({ open: "covert channels" }, { ...REACHED, failure: "nothing signals" })).toMatchObject({ result: "void" });
});

verifies(
  "security/told-truly",
  "a wall that a machine cannot raise opens the rows that stand on it alone, and only where it is named",
  () => {
    const row = { openedBy: ["pids-by-rlimit"] };
    expect(verdict(row, { ...REACHED, weakenings: ["pids-by-rlimit"] })).toMatchObject({ result: "open" });
    expect(verdict(row, { ...REACHED, weakenings: ["cpu-not-limited"] })).toMatchObject({ result: "breached" });
    expect(verdict(row, { ...CLOSED, weakenings: ["pids-by-rlimit"] })).toEqual({ result: "held" });
  },
);

verifies("security/told-truly", "every id stands once, in the catalogue or among what is not tried yet", () => {
  const ids = [...CATALOGUE.map(({ id }) => id), ...PLANNED.map(({ id }) => id)];
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
});
