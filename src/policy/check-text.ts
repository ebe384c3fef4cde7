// Prints what check.ts found: the tree with levels, and a summary. It judges nothing.
// Invariant: names are printed inert; a subtree of one level is one line, so that the text is as long as the policy makes it.

import type { Permission } from "../api/policy.ts";
import { namesOf, printable, toBytes } from "./bytes.ts";
import type { CheckedEntry, CheckReport } from "./check.ts";

/** Lines of one list of the summary. */
const MAX_LISTED = 50;

/** The lines of the report, without their ends. */
export function* checkLines(report: CheckReport): Generator<string> {
  yield* treeLines(report.root, 0);
  yield "";
  yield* summaryLines(report);
}

function* treeLines(entry: CheckedEntry, depth: number): Generator<string> {
  const below = uniformBelow(entry);
  yield line(entry, depth, below === undefined || below.count === 0 ? "" : ` and ${below.count} below`);
  if (below !== undefined) return;
  for (const child of entry.children.toSorted((a, b) => (a.path < b.path ? -1 : 1))) yield* treeLines(child, depth + 1);
}

function line(entry: CheckedEntry, depth: number, more: string): string {
  const name = printable(namesOf(entry.path).at(-1) ?? "");
  const mark = entry.kind === "dir" ? "/" : entry.kind === "link" ? "@" : entry.kind === "other" ? " (special)" : "";
  return `${entry.permission.padEnd(5)} ${"  ".repeat(depth)}${name}${mark}${entry.passage ? " (passage)" : ""}${more}`;
}

/** How many entries are below when all have the entry's own level, else `undefined`. Not recursive: a tree can be deeper than a stack. */
function uniformBelow(entry: CheckedEntry): { readonly count: number } | undefined {
  let count = 0;
  const todo = [...entry.children];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    if (next.permission !== entry.permission || next.passage !== entry.passage) return undefined;
    count++;
    for (const child of next.children) todo.push(child);
  }
  return { count };
}

function* summaryLines(report: CheckReport): Generator<string> {
  const { counts, hidden, aliases, idle, policy } = report;
  const levels: readonly Permission[] = ["write", "read", "view", "none"];
  yield levels.map((level) => `${level} ${counts[level]}`).join("  ");
  yield* listed(
    hidden,
    `hidden (${hidden.length}, each with all below):`,
    (entry) => `${printable(entry.path)}  ${ruleText(report, entry.ruleIndex)}`,
  );
  yield* listed(aliases, "visible, though they give a hidden path away:", (alias) => {
    const how =
      alias.by === "link"
        ? "its text names"
        : alias.content
          ? "is another name of the same file, content included, as"
          : "is another name of the same file as";
    return `${printable(alias.path)}  ${how} ${printable(alias.hidden)}`;
  });
  if (report.gitReadable) yield "warning: `.git/objects` is readable and may hold the content of hidden paths; hide `.git/` too";
  yield* listed(idle, "rules that decide nothing in this tree:", (index) => ruleText(report, index));
  if (policy.rules.length === 0) yield "warning: the policy has no rules: nothing is visible";
}

function* listed<Item>(items: readonly Item[], title: string, text: (item: Item) => string): Generator<string> {
  if (items.length === 0) return;
  yield title;
  for (const item of items.slice(0, MAX_LISTED)) yield `  ${text(item)}`;
  if (items.length > MAX_LISTED) yield `  and ${items.length - MAX_LISTED} more`;
}

function ruleText(report: CheckReport, index: number): string {
  const rule = report.policy.rules[index];
  if (rule === undefined) return "(no rule matches)";
  return `(rule ${index + 1}: ${rule.permission} ${printable(toBytes(rule.pattern)).replaceAll("\\\\", "\\")})`;
}
