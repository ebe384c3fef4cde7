// docs/scoreboard.md against the catalogue that it claims to tell of. Invariant: no row is missing there and no dead one stands there.

import { expect, it } from "vitest";
import type { AttackReport, AttackRow } from "../src/api/attack.ts";
import { CATALOGUE } from "../src/attack/catalogue.ts";
import { PLANNED } from "../src/attack/planned.ts";
import { report } from "../src/attack/run.ts";
import { scoreboard } from "./tools/scoreboard.ts";
import { read } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const MACHINE: AttackReport["machine"] = {
  corral: "0",
  guest: "f".repeat(64),
  date: "2026-01-01T00:00:00.000Z",
  kernel: "6.0",
  arch: "x64",
  distro: "Some",
  user: "root",
  features: {},
  runtimes: { native: "ok" },
  weakenings: [],
};
const ROW: AttackRow = {
  id: "kernel/a",
  class: "kernel",
  runtime: "native",
  engine: "kernel",
  door: "exec",
  user: "user",
  result: "held",
  control: { kind: "plain", result: "succeeded" },
  ms: 1,
};

verifies("house/scoreboard", "docs/scoreboard.md names every row of the catalogue and no other; mend it: ./corral scoreboard", () => {
  const ids = [...CATALOGUE.map(({ id }) => id), ...PLANNED.map(({ id }) => id)].sort();
  const named = [...read("docs/scoreboard.md").matchAll(/`([a-z]+\/[a-z0-9-]+)`/g)].map(([, id]) => id);
  expect([...new Set(named)].sort()).toEqual(ids);
});

it("counts each result once and tells what is not held with where and why", () => {
  const breached: AttackRow = { ...ROW, id: "kernel/b", result: "breached", reason: "a | b" };
  const page = scoreboard([
    report(MACHINE, [ROW, breached]),
    report({ ...MACHINE, user: "rootless" }, [{ ...ROW, result: "void", reason: "no" }]),
  ]);
  expect(page).toContain("| kernel | 1 / 1 / 0 / 0 / 0 | 0 / 0 / 1 / 0 / 0 |");
  expect(page).toContain("| breached | a \\| b | native, root | `kernel/b` |");
  expect(page).toContain("| void | no | native, rootless | `kernel/a` |");
});
