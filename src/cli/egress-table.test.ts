import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import type { EgressResource } from "../api/network.ts";
import { egressTable } from "./egress-table.ts";

const ONE: EgressResource = {
  id: "1",
  at: "2026-01-01T00:00:00.000Z",
  sandboxId: "sb1",
  version: 1,
  way: "proxy",
  outcome: "refused",
  reason: "no-rule",
  host: "db.example",
  port: 5432,
  process: "7:ps\u001b[31mql",
  count: 2,
  sentBytes: 0,
  receivedBytes: 0,
  allow: { host: "db.example", ports: [5432], tls: false },
};

verifies("cli/egress", "each refusal is a line with the call that would allow it, and what was too much to be kept is a number", () => {
  const [head = "", first = "", ...rest] = egressTable("sb1", [ONE]).split("\n");
  expect(head).toMatch(/^AT +HOST +PORT/);
  expect(first).toMatch(/db\.example +5432 +\S+ +2 +no-rule +corral network sb1 --allow db\.example:5432$/);
  expect(first, "inert").not.toContain("\u001b");
  expect(rest).toEqual([""]);
  expect(egressTable("sb1", [{ ...ONE, missed: 3 }, ONE, { ...ONE, missed: 4 }])).toMatch(/\nand 7 more, too many to be kept\n$/);
});
