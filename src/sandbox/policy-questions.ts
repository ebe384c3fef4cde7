// What people ask about policies: lint a file, explain a path, check a tree. Loaded when asked; no run of a program needs it.
// Invariant: the answers come from the functions of policy/ that also decide; nothing is judged here.

import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { EntryKind, Policy, PolicyProblem } from "../api/policy.ts";
import { checkTree } from "../policy/check.ts";
import { checkLines } from "../policy/check-text.ts";
import { explain, explainText } from "../policy/explain.ts";
import { lintText } from "../policy/lint.ts";
import { codebaseEntries } from "./codebase-entries.ts";
import { formatByName, holdsWorkspace, readPolicyFile } from "./policies.ts";

export async function lintFile(file: string): Promise<readonly PolicyProblem[]> {
  return lintText(await readPolicyFile(file), formatByName(file));
}

export async function explainPath(policy: Policy, path: string, dir?: string): Promise<string> {
  const kind = dir === undefined ? undefined : await kindOf(join(dir, path));
  return explainText(explain(policy, path, { hasWorkspaceEntry: await holdsWorkspace(dir), ...(kind === undefined ? {} : { kind }) }));
}

export async function checkDir(policy: Policy, dir: string): Promise<string> {
  const report = await checkTree(policy, codebaseEntries(dir));
  return [...checkLines(report)].join("\n");
}

async function kindOf(path: string): Promise<EntryKind | undefined> {
  const stats = await lstat(path).catch(() => undefined); // nothing there: a name that may come to be
  if (stats === undefined) return undefined;
  return stats.isFile() ? "file" : stats.isDirectory() ? "dir" : stats.isSymbolicLink() ? "link" : "other";
}
