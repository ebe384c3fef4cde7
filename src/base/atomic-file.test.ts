import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createFileAtomic, isDraft, writeFileAtomic } from "./atomic-file.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "corral-atomic-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

it("replaces content and leaves no draft", () => {
  const file = join(scratch, "f");
  writeFileAtomic(file, "one");
  writeFileAtomic(file, "two", { sync: true });
  expect(readFileSync(file, "utf8")).toBe("two");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readdirSync(scratch)).toEqual(["f"]);
});

it("a link at the name is replaced, its target is not written", () => {
  writeFileSync(join(scratch, "target"), "precious");
  symlinkSync(join(scratch, "target"), join(scratch, "f"));
  writeFileAtomic(join(scratch, "f"), "new");
  expect(readFileSync(join(scratch, "target"), "utf8")).toBe("precious");
});

it("of two that create a file the first one stands, and no draft is left", () => {
  const file = join(scratch, "f");
  expect([createFileAtomic(file, "one"), createFileAtomic(file, "two", { sync: true })]).toEqual([true, false]);
  expect(readFileSync(file, "utf8")).toBe("one");
  expect(readdirSync(scratch)).toEqual(["f"]);
});

it("a failed write leaves no draft and the old content", () => {
  expect(() => writeFileAtomic(join(scratch, "missing", "f"), "x")).toThrow("ENOENT");
  expect(readdirSync(scratch)).toEqual([]);
  mkdirSync(join(scratch, "d"));
  expect(() => writeFileAtomic(join(scratch, "d"), "x")).toThrow("EISDIR");
  expect(readdirSync(scratch)).toEqual(["d"]);
});

it("a draft is told from a file by its name", () => {
  expect(isDraft("sbabc.json.k3j2h1g0.tmp")).toBe(true);
  expect(isDraft("sbabc.json")).toBe(false);
});
