// The twin: two codebases, one with hidden entries, one that never had them; one observer (observe.c) in a view of each. What it
// writes down must be the same, byte for byte, before and after it removes and renames what it can.
// Invariant: the control, the same entries at `view`, must differ, or the observer sees nothing and proves nothing.

import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { policyOf } from "../fixtures/view-lab.ts";
import { oneTime, ops, type Inside, type ViewBed } from "./view.ts";

export interface TwinBed extends ViewBed {
  /** The program observe.c, built. */
  readonly observe: string;
}

/** What stands for the hidden: `absent` never had it, `none` hides it, `view` shows it (the control). */
export type Sort = "absent" | "none" | "view";

const RULES = (level: "none" | "view") =>
  policyOf(
    ["read", "**"],
    ["write", "/work/**"],
    ["write", "/mixed/**"],
    ["read", "/mixed/kept.txt"],
    [level, "*.hid"],
    [level, "hid/"],
    [level, "/passage/**"],
    ["read", "/passage/deep/open.txt"],
  );

/** Directories of all sorts, each with `hidden` names in it that the policy hides. */
function fill(base: string, bed: TwinBed, withHidden: boolean, hidden: number): void {
  const dirs = ["shut", "work", "work/only", "work/deep/er", "mixed", "mixed/sub", "empty", "passage/deep"];
  for (const dir of dirs) mkdirSync(join(base, dir), { recursive: true });
  for (const dir of [".", ...dirs]) {
    if (dir !== "empty" && dir !== "work/only" && !dir.startsWith("passage"))
      for (const name of ["a.txt", "m.txt", "z.txt"]) writeFileSync(join(base, dir, name), name);
    if (!withHidden) continue;
    for (let i = 0; i < hidden; i++) writeFileSync(join(base, dir, `n${i}.hid`), "hidden");
    mkdirSync(join(base, dir, "hid"));
    writeFileSync(join(base, dir, "hid", "below"), "hidden");
    symlinkSync("a.txt", join(base, dir, "link.hid"));
  }
  writeFileSync(join(base, "mixed", "kept.txt"), "kept");
  writeFileSync(join(base, "passage", "deep", "open.txt"), "open");
  for (const program of ["ops", "observe"] as const) {
    copyFileSync(bed[program], join(base, program));
    chmodSync(join(base, program), 0o755);
  }
  oneTime(base);
}

/** Removals, renames and creations that hidden names could disturb; asked in order, each once. */
const DISTURBING: readonly (readonly string[])[] = [
  ["rmdir", "work/only"],
  ["mkdir", "work/only"],
  ["lstat", "work/only/n0.hid"],
  ["rename", "work/deep", "work/moved"],
  ["lstat", "work/moved/er/n0.hid"],
  ["lstat", "work/moved/er/hid/below"],
  ["list", "work/moved"],
  ["mkdir", "work/hid"],
  ["open", "work/n0.hid", "excl"],
  ["rename", "work/a.txt", "work/n1.hid"],
  ["link", "work/m.txt", "work/n2.hid"],
  ["symlink", "x", "work/link.hid"],
  ["list", "work"],
  ["unlink", "work/n0.hid"],
  ["lstat", "work/n0.hid"],
  ["open", "shut/n0.hid", "creat"],
  ["mkdir", "shut/hid"],
  ["rmdir", "mixed/sub"],
  ["unlink", "mixed/sub/a.txt"],
  ["unlink", "mixed/sub/m.txt"],
  ["unlink", "mixed/sub/z.txt"],
  ["rmdir", "mixed/sub"],
  ["rmdir", "empty"],
  ["list", "passage"],
  ["list", "passage/deep"],
  ["lstat", "passage/n0.hid"],
];

const ASKED = [
  "n0.hid",
  "work/n0.hid",
  "work/hid",
  "work/hid/below",
  "empty",
  "empty/n0.hid",
  "passage/hid",
  "mixed/link.hid",
  "work/only",
  "shut",
  ".",
];

async function look(inside: Inside): Promise<string> {
  const { stdout, stderr, status } = await inside.run(["./observe"], ASKED.map((path) => `${path}\n`).join(""));
  if (status !== 0 || stderr !== "") throw new Error(`observe ended with ${status}: ${stderr}`);
  return stdout;
}

/** What the observer writes down of one sort, and what the operations answer. */
export async function observeTwin(bed: TwinBed, sort: Sort, hidden: number): Promise<string> {
  const base = bed.emptyCodebase();
  fill(base, bed, sort !== "absent", hidden);
  const inside = await bed.enter(base, RULES(sort === "view" ? "view" : "none"));
  const before = await look(inside);
  const answers = await ops(inside, DISTURBING);
  const after = await look(inside);
  return [before, ...answers, after.replace(/^rank .*\n/gm, "")].map(withoutOwn).join("\n");
}

/** What the sandbox itself made, its root first of all, has the time of its making; inode numbers of it are left out above. */
function withoutOwn(text: string): string {
  return text.replace(/ (?:[ma]|mtime)=(?!1700000000)\d+\.\d{9}/g, "");
}
