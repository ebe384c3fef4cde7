import { describe, expect, it } from "vitest";
import { Batches } from "./batches.ts";

describe("batches", () => {
  it("share the work among all who ask before it begins, and nobody gets work that began before he asked", async () => {
    const batches = new Batches<number>();
    const gates: (() => void)[] = [];
    let begun = 0;
    const work = async (): Promise<number> => {
      const number = ++begun;
      await new Promise<void>((resolve) => gates.push(resolve));
      return number;
    };
    const first = [batches.run("a", work), batches.run("a", work)];
    const other = batches.run("b", work);
    await new Promise((resolve) => setImmediate(resolve));
    const second = [batches.run("a", work), batches.run("a", work), batches.run("a", work)];
    await new Promise((resolve) => setImmediate(resolve));
    expect(begun).toBe(2); // the third waits for the first
    while (gates.length > 0) gates.shift()?.();
    expect(await Promise.all(first)).toEqual([
      { value: 1, sharers: 2 },
      { value: 1, sharers: 2 },
    ]);
    expect(await other).toEqual({ value: 2, sharers: 1 });
    await new Promise((resolve) => setImmediate(resolve));
    while (gates.length > 0) gates.shift()?.();
    expect(await Promise.all(second)).toEqual([3, 3, 3].map((value) => ({ value, sharers: 3 })));
  });

  it("go on after work that failed", async () => {
    const batches = new Batches<number>();
    const failing = batches
      .run("a", async () => {
        throw new Error("no");
      })
      .then(
        () => "no error",
        (error: Error) => error.message,
      );
    await new Promise((resolve) => setImmediate(resolve));
    const next = batches.run("a", async () => 7);
    expect(await failing).toBe("no");
    expect((await next).value).toBe(7);
  });
});
