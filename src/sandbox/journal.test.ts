import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { identify } from "../base/process-identity.ts";
import { type JournalEntry, listJournal, removeJournal, writeJournal } from "./journal.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "corral-journal-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function entry(id: string): JournalEntry {
  const maker = identify(process.pid);
  if (maker === undefined) throw new Error("this process has no identity");
  return { version: 2, id, maker, runtime: "native", createdAt: new Date(0).toISOString(), delta: "keep" };
}

const ID = `sb${"a1".repeat(10)}`;

it("an entry is read as it was written, and gone once removed", async () => {
  writeJournal(dir, entry(ID));
  expect(listJournal(dir)).toEqual({ entries: [entry(ID)], broken: [] });
  await removeJournal(dir, ID);
  await removeJournal(dir, ID);
  expect(readdirSync(dir)).toEqual([]);
});

it("a draft, a damaged file and a file whose id is not its name are no entries", () => {
  writeJournal(dir, entry(ID));
  for (const draft of ["abcdefgh", "abcdefgi"]) writeFileSync(join(dir, `${ID}.json.${draft}.tmp`), "{");
  // Only the older one has no writer any more.
  utimesSync(join(dir, `${ID}.json.abcdefgh.tmp`), 0, 0);
  writeFileSync(join(dir, `sb${"b".repeat(20)}.json`), "{");
  writeFileSync(join(dir, `sb${"c".repeat(20)}.json`), JSON.stringify(entry(ID)));
  writeFileSync(join(dir, "..json"), JSON.stringify({ ...entry(ID), id: "." }));
  const { entries, broken } = listJournal(dir);
  expect(entries.map(({ id }) => id)).toEqual([ID]);
  expect(broken.length).toBe(4);
});
