import { describe, expect, it } from "vitest";
import { parseSubIds } from "./subids.ts";

describe("parseSubIds", () => {
  it("takes the largest range of the user, by name or by number", () => {
    const text = "root:1:5\nann:100000:10\nann:300000:65536\n1000:500000:70000\n";
    expect(parseSubIds(text, "ann", 7)).toEqual({ start: 300_000, count: 65_536 });
    expect(parseSubIds(text, "ann", 1000)).toEqual({ start: 500_000, count: 70_000 });
  });

  it("finds none for others, and none in lines that are no ranges", () => {
    expect(parseSubIds("ann:100000:65536\n", "bob", 1001)).toBeUndefined();
    expect(parseSubIds("", "ann", 1)).toBeUndefined();
    expect(parseSubIds("ann\nann:x:5\nann:5:\nann:-5:7\n", "ann", 1)).toBeUndefined();
  });
});
