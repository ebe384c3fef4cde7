// The frames between a shell and its server, where what comes in may be anything. How bash takes them: test/conformance/client/shells.ts.

import { describe, expect, it } from "vitest";
import { commandRecords, loopRecord, pingRecords, ReportReader } from "./shell-wire.ts";

const ID = "0123456789abcdef";

describe("what a shell says", () => {
  it("is cut into reports wherever it was cut on its way", () => {
    const whole = Buffer.from(`${ID} 0 /tmp\0${ID} 137 /a b\nc é\0`);
    const want = [
      { id: ID, exitCode: 0, cwd: "/tmp" },
      { id: ID, exitCode: 137, cwd: "/a b\nc é" },
    ];
    for (let cut = 0; cut <= whole.length; cut++) {
      const reader = new ReportReader();
      const got = [whole.subarray(0, cut), whole.subarray(cut)].flatMap((part) => reader.push(part) ?? []);
      expect(got).toEqual(want);
    }
  });

  it("is not believed when no loop of ours says it", () => {
    const lies = [
      "\0",
      "x\0",
      `${ID} 0 \0`,
      `${ID} 0 tmp\0`,
      `${ID} -1 /\0`,
      `${ID} 1000 /\0`,
      `${ID.slice(1)} 0 /\0`,
      `${ID.toUpperCase()} 0 /\0`,
    ];
    for (const lie of lies) expect(new ReportReader().push(Buffer.from(lie))).toBeUndefined();
    expect(new ReportReader().push(Buffer.from(`${ID} 0 /${"x".repeat(20_000)}\0`))).toBeUndefined();
    const reader = new ReportReader();
    let refused = 0;
    for (let n = 0; n < 100; n++) if (reader.push(Buffer.alloc(1_000, 120)) === undefined) refused += 1;
    expect(refused).toBeGreaterThan(0);
  });
});

describe("what a shell is sent", () => {
  it("is a command in pieces that each tell their length, and its whole length at the end", () => {
    const command = Buffer.from("é".repeat(5_000));
    const records = Buffer.from(commandRecords(ID, command)).toString("latin1");
    expect(records).toMatch(/^\+4096\0[^\0]{4096}\+4096\0[^\0]{4096}\+1808\0[^\0]{1808}=0123456789abcdef 10000\0$/);
    expect(Buffer.from(commandRecords(ID, Buffer.from(":"))).toString()).toBe(`+1\0:=${ID} 1\0`);
  });

  it("makes up for any part of a command that was cut off: what fills it is no number and no record", () => {
    const filler = Buffer.from(pingRecords(ID, true)).toString();
    expect(filler).toBe(`${"x".repeat(4_096)}\0-\0=${ID} 0\0`);
    expect(Buffer.from(pingRecords(ID, false)).toString()).toBe(`=${ID} 0\0`);
  });

  it("begins with the loop, without its comments", () => {
    const loop = Buffer.from(loopRecord()).toString();
    expect(loop.endsWith("\0") && loop.indexOf("\0") === loop.length - 1).toBe(true);
    expect(loop).not.toMatch(/^\s*#/m);
    expect(loop).toContain("__corral_loop=");
  });
});
