import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ensurePrivateDir } from "./private-dir.ts";

const uid = process.getuid?.() ?? 0;
let scratch = "";

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "corral-private-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

it("a new directory is made with mode 0700, its missing parents too", () => {
  const path = ensurePrivateDir(join(scratch, "a", "b"), uid);
  expect(statSync(path).mode & 0o7777).toBe(0o700);
});

it("a directory of ours that others can read is narrowed", () => {
  mkdirSync(join(scratch, "d"), { mode: 0o755 });
  expect(statSync(ensurePrivateDir(join(scratch, "d"), uid)).mode & 0o777).toBe(0o700);
});

it("a directory that others can write is refused, and so is one below it", () => {
  mkdirSync(join(scratch, "open"));
  chmodSync(join(scratch, "open"), 0o777);
  expect(() => ensurePrivateDir(join(scratch, "open"), uid)).toThrow("can be written by others");
  expect(() => ensurePrivateDir(join(scratch, "open", "below"), uid)).toThrow("exchange what lies below");
});

it("a sticky directory above, like /tmp, is allowed", () => {
  mkdirSync(join(scratch, "sticky"));
  chmodSync(join(scratch, "sticky"), 0o1777);
  expect(ensurePrivateDir(join(scratch, "sticky", "mine"), uid)).toContain("mine");
});

it("a symbolic link is refused as the directory itself", () => {
  mkdirSync(join(scratch, "real"));
  symlinkSync(join(scratch, "real"), join(scratch, "link"));
  expect(() => ensurePrivateDir(join(scratch, "link"), uid)).toThrow("symbolic link");
});

it("a directory of another user is refused", () => {
  mkdirSync(join(scratch, "theirs"));
  expect(() => ensurePrivateDir(join(scratch, "theirs"), uid + 1)).toThrow("belongs to uid");
});
