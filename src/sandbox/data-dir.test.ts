import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import { defaultDataPath, openDataDir, refuseOverlap } from "./data-dir.ts";

const uid = process.getuid?.() ?? 0;
let scratch = "";
let runs: string[] = [];

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "corral-data-")));
  runs = [];
});
afterEach(() => {
  for (const dir of [scratch, ...runs]) rmSync(dir, { recursive: true, force: true });
});

function opened(path: string) {
  const data = openDataDir({ path, env: { XDG_RUNTIME_DIR: scratch }, uid });
  runs.push(data.run);
  return data;
}

function codeOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return errorCode(error);
  }
}

verifies("sandbox/data-private", "the data and run directories are made for this user alone", () => {
  const data = opened(join(scratch, "data"));
  for (const dir of [data.root, data.run, data.journal, data.deltas, data.masks])
    expect([dir, statSync(dir).mode & 0o777]).toEqual([dir, 0o700]);
});

verifies("sandbox/data-unsafe", "a data directory that is a link, or that others can write or exchange, is refused", () => {
  mkdirSync(join(scratch, "real"));
  symlinkSync(join(scratch, "real"), join(scratch, "link"));
  mkdirSync(join(scratch, "open"));
  chmodSync(join(scratch, "open"), 0o777);
  expect(codeOf(() => opened(join(scratch, "link")))).toBe("data_unsafe");
  expect(codeOf(() => opened(join(scratch, "open")))).toBe("data_unsafe");
  expect(codeOf(() => opened(join(scratch, "open", "below")))).toBe("data_unsafe");
  expect(codeOf(() => openDataDir({ path: join(scratch, "other"), env: { XDG_RUNTIME_DIR: scratch }, uid: uid + 1 }))).toBe("data_unsafe");
});

it("a socket of the run directory has a path that a socket can have, wherever the data lies", () => {
  const data = opened(join(scratch, "d".repeat(100)));
  expect(join(data.run, `sb${"a".repeat(20)}.sock`).length).toBeLessThan(108);
});

it("two data directories have two run directories, and the same one finds its own again", () => {
  const first = opened(join(scratch, "a"));
  expect(opened(join(scratch, "b")).run).not.toBe(first.run);
  expect(opened(join(scratch, "a")).run).toBe(first.run);
});

verifies("sandbox/data-overlap", "a codebase that holds the data directory, or lies in it, is refused", () => {
  const data = opened(join(scratch, "data"));
  for (const codebase of ["/", scratch, data.root, data.deltas, data.run])
    expect([codebase, codeOf(() => refuseOverlap(data, codebase))]).toEqual([codebase, "data_unsafe"]);
  expect(codeOf(() => refuseOverlap(data, join(scratch, "data-of-mine")))).toBeUndefined();
});

it("the default place is root's own or below the home, and asked for where neither is known", () => {
  expect(defaultDataPath({}, 0)).toBe("/var/lib/corral");
  expect(defaultDataPath({ HOME: "/home/x" }, 1000)).toBe("/home/x/.local/share/corral");
  expect(defaultDataPath({ HOME: "/home/x", XDG_DATA_HOME: "/data" }, 1000)).toBe("/data/corral");
  expect(defaultDataPath({ HOME: "/home/x", XDG_DATA_HOME: "relative" }, 1000)).toBe("/home/x/.local/share/corral");
  expect(codeOf(() => defaultDataPath({}, 1000))).toBe("data_unsafe");
});
