import { expect, it } from "vitest";
import { formatMs, parseDuration, parseSize } from "./units.ts";

it("a duration without a unit is seconds", () => {
  expect(["90", "90s", "1.5m", "2h", "500ms"].map((text) => parseDuration(text, "--timeout"))).toEqual([
    90_000, 90_000, 90_000, 7_200_000, 500,
  ]);
});

it("a size without a unit is bytes, letters are powers of 1024", () => {
  expect(["1024", "512M", "2G", "1.5GiB", "4kb"].map((text) => parseSize(text, "--memory"))).toEqual([
    1024,
    512 * 1024 ** 2,
    2 * 1024 ** 3,
    1.5 * 1024 ** 3,
    4096,
  ]);
});

it("what is no duration or size is refused with the option's name, nothing is guessed", () => {
  for (const text of ["", "x", "-1", "5 m", "1e3", "0", "5d", "NaN", "99999999h"])
    expect(() => parseDuration(text, "--timeout")).toThrow("--timeout: ");
  for (const text of ["", "x", "-1", "5 M", "0", "1e9", "12Q", "9999999999999T"])
    expect(() => parseSize(text, "--memory")).toThrow("--memory: ");
});

it("times are told in the unit that fits", () => {
  expect([1.234, 45.6, 1500, 61_000].map(formatMs)).toEqual(["1.2 ms", "46 ms", "1.5 s", "1 min 1 s"]);
});
