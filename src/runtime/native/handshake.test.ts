import { describe, expect, it } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { compareReady, type Expectation, parseReady } from "./handshake.ts";

const NAMES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
const OUTSIDE = new Map(NAMES.map((name, index) => [name, String(index)]));
const EXPECTED: Expectation = { weaken: [], rootOffered: false, outside: OUTSIDE };

const CONTAINED: Readonly<Record<string, string>> = {
  version: "x",
  "cap-eff": "00000000000000e0",
  "cap-prm": "00000000000000e0",
  "cap-inh": "0000000000000000",
  "cap-bnd": "0000000000000000",
  "cap-amb": "0000000000000000",
  nnp: "1",
  seccomp: "2",
  dumpable: "0",
  cgroup: "4:memory:/\n1:cpu:/\n0::/",
};

function ready(changes: Readonly<Record<string, string>> = {}, same: string | null = null): ReturnType<typeof parseReady> {
  const fields = Object.entries({ ...CONTAINED, ...changes }).flat();
  const spaces = NAMES.flatMap((name, index) => ["ns", name, name === same ? String(index) : `9${index}`]);
  return parseReady([...fields, ...spaces]);
}

describe("compareReady", () => {
  it("passes a PID 1 that is contained", () => {
    expect(() => compareReady(ready(), EXPECTED)).not.toThrow();
    expect(() => compareReady(ready({ "cap-eff": "0000000000000000", "cap-prm": "0000000000000000" }), EXPECTED)).not.toThrow();
  });

  const walls: readonly (readonly [string, Readonly<Record<string, string>>, number])[] = [
    ["one capability more", { "cap-eff": "00000000000001e0" }, 18],
    ["the full set", { "cap-prm": "000001ffffffffff" }, 18],
    ["an inheritable capability", { "cap-inh": "0000000000000020" }, 18],
    ["an ambient capability", { "cap-amb": "0000000000000020" }, 18],
    ["a bounding set", { "cap-bnd": "0000000000000001" }, 18],
    ["capabilities that are no number", { "cap-eff": "all" }, 18],
    ["new privileges to come", { nnp: "0" }, 20],
    ["no filter", { seccomp: "0" }, 22],
    ["a PID 1 that can be traced", { dumpable: "1" }, 17],
    ["the node's cgroup", { cgroup: "4:memory:/corral/1-2/sb\n0::/" }, 5],
  ];
  for (const [what, changes, step] of walls) {
    it(`refuses ${what}, unless that step was left out on purpose`, () => {
      expect(() => compareReady(ready(changes), EXPECTED)).toThrow(expect.objectContaining({ code: "create_failed" }));
      expect(() => compareReady(ready(changes), { ...EXPECTED, weaken: [step] })).not.toThrow();
    });
  }

  verifies("runtime/handshake-namespaces", "a sandbox that shares any namespace with the server is refused", () => {
    for (const name of NAMES) expect(() => compareReady(ready({}, name), EXPECTED)).toThrow(new RegExp(`${name} namespace is ours`));
    expect(() => compareReady(parseReady(Object.entries(CONTAINED).flat()), EXPECTED)).toThrow(/namespace is unknown/);
  });

  it("expects the eight of uid 0 inside where that is offered, and nothing else", () => {
    const offered = { ...EXPECTED, rootOffered: true };
    expect(() =>
      compareReady(ready({ "cap-bnd": "00000000000004fb", "cap-eff": "00000000000005fb", "cap-prm": "00000000000005fb" }), offered),
    ).not.toThrow();
    expect(() => compareReady(ready({ "cap-bnd": "00000000002004fb" }), offered)).toThrow(/cap-bnd/);
    expect(() => compareReady(ready({ "cap-bnd": "00000000000004fb" }), EXPECTED)).toThrow(/cap-bnd/);
  });

  it("refuses a READY that says nothing", () => {
    expect(() => compareReady(parseReady([]), EXPECTED)).toThrow(expect.objectContaining({ code: "create_failed" }));
  });
});
