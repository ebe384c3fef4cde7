// What every engine's view must do, run from inside by ops.c as the sandbox's user. kernel.test.ts calls it; a runtime's or another
// engine's test calls it with its own bed. Invariant: nothing here knows how a view is made.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Policy } from "../../src/api/policy.ts";
import { escapeWord, policyOf } from "../fixtures/view-lab.ts";
import { CASES, type Case } from "./view-rows.ts";

/** One view, seen from inside. */
export interface Inside {
  /** Runs a program of the view (`./ops`) in its root, as the sandbox's user. */
  run(argv: readonly string[], input?: string): Promise<{ readonly stdout: string; readonly stderr: string; readonly status: number }>;
}

export interface ViewBed {
  /** An empty directory to fill, on the host. */
  emptyCodebase(): string;
  /** The program ops.c, built. */
  readonly ops: string;
  enter(codebase: string, policy: Policy, presetDirs?: readonly string[]): Promise<Inside>;
}

/** Levels by the end of a name, in a directory that may be written and in one that may not. */
const MATRIX_POLICY = policyOf(
  ["read", "**"],
  ["write", "/open/**"],
  ["write", "/aside/**"],
  ["view", "*.view"],
  ["read", "*.read"],
  ["write", "*.write"],
  ["none", "*.none"],
);

/** Runs operations in one process; one answer for each line. */
export async function ops(inside: Inside, lines: readonly (readonly string[])[]): Promise<string[]> {
  const { stdout, stderr } = await inside.run(["./ops"], lines.map((words) => `${words.map(escapeWord).join("\t")}\n`).join(""));
  if (stderr !== "") throw new Error(stderr);
  const answers = stdout.split("\n").slice(0, -1);
  if (answers.length !== lines.length)
    throw new Error(`ops answered ${answers.length} of ${lines.length} lines; the last: ${answers.at(-1)}`);
  return answers;
}

/** The codebase of the matrix; `leaveOut` makes the twin that never had the hidden entries. */
function fillMatrix(base: string, program: string, leaveOut: boolean): void {
  for (const dir of ["open", "shut", "aside"]) mkdirSync(join(base, dir));
  copyFileSync(program, join(base, "ops"));
  chmodSync(join(base, "ops"), 0o755);
  for (const { row, path, aside, level } of CASES) {
    const at = join(base, path);
    writeFileSync(join(base, aside), "aside");
    if (row.target === "holder") {
      mkdirSync(at);
      if (level !== "none" || !leaveOut) writeFileSync(join(at, `child.${level}`), "child");
      continue;
    }
    if (level === "none" && leaveOut) continue;
    if (row.target === "dir") mkdirSync(at);
    else if (row.target === "link") symlinkSync("target", at);
    else if (row.id === "exec") copyFileSync(program, at);
    else writeFileSync(at, "content");
    if (row.target === "file") chmodSync(at, 0o755);
  }
  oneTime(base);
}

/** Gives everything one time: two codebases made one after the other differ in nothing but what was left out. */
export function oneTime(base: string): void {
  execFileSync("find", [base, "-depth", "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]);
}

function firstWord(answer: string): string {
  return answer.split(" ", 1)[0] ?? "";
}

/** Each row at each level; returns what differs from the table, as sentences. */
export async function checkMatrix(bed: ViewBed): Promise<string[]> {
  const base = bed.emptyCodebase();
  fillMatrix(base, bed.ops, false);
  const inside = await bed.enter(base, MATRIX_POLICY);
  const answers = await answerAll(inside);
  return CASES.flatMap((one, index) => {
    const answer = answers[index] as string;
    return one.expected.split("|").includes(firstWord(answer))
      ? []
      : [`${one.row.id} of a ${one.level} ${one.row.target} in a directory that is ${one.parent}: ${answer}, must be ${one.expected}`];
  });
}

/** Every operation on a hidden path, against the same operation where there is none: returns the cases whose answers differ. */
export async function compareHidden(bed: ViewBed): Promise<string[]> {
  const answers: string[][] = [];
  for (const leaveOut of [false, true]) {
    const base = bed.emptyCodebase();
    fillMatrix(base, bed.ops, leaveOut);
    answers.push(await answerAll(await bed.enter(base, MATRIX_POLICY)));
  }
  const [hidden = [], absent = []] = answers;
  return CASES.flatMap((one, index) =>
    hidden[index] === absent[index]
      ? []
      : [`${one.row.id} at ${one.path}: ${hidden[index]} when it is hidden, ${absent[index]} when it is not there`],
  );
}

/** The answer of each case's last line. */
async function answerAll(inside: Inside): Promise<string[]> {
  const groups = CASES.map((one: Case) => one.row.lines(one.path, one.aside));
  const answers = await ops(inside, groups.flat());
  let at = 0;
  return groups.map((group) => {
    at += group.length;
    return answers[at - 1] as string;
  });
}
