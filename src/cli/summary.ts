// Shows what a sandbox changed, on a terminal or in a log. Paths and reasons come out of the sandbox.
// Invariant: every line is inert and its own; a long list is cut and says so.

import type { Change, CommitResult, Refusal } from "../api/sandbox.ts";
import { inert } from "../base/inert.ts";
import { formatCount } from "./units.ts";

const LINES_SHOWN = 60;

const MARK: Readonly<Record<Change["kind"], string>> = { add: "A", modify: "M", delete: "D", rename: "R", mode: "P" };
const COLOUR: Readonly<Record<Change["kind"], number>> = { add: 32, modify: 33, delete: 31, rename: 36, mode: 36 };

export interface SummaryOptions {
  readonly colour: boolean;
  readonly maxLines?: number;
}

export function changeLines(changes: readonly Change[], refused: readonly Refusal[], options: SummaryOptions): readonly string[] {
  const max = options.maxLines ?? LINES_SHOWN;
  const reasons = new Map(refused.map(({ path, reason }) => [path, reason]));
  const lines = changes.slice(0, max).map((change) => changeLine(change, reasons.get(change.path), options.colour));
  const listed = new Set(changes.map(({ path }) => path));
  const others = refused.filter(({ path }) => !listed.has(path)).slice(0, max);
  lines.push(
    ...others.map(
      ({ path, reason }) => `  ${paint("!", 31, options.colour)} ${inert(path)}  ${paint(`refused: ${inert(reason)}`, 31, options.colour)}`,
    ),
  );
  if (changes.length > max) lines.push(`  … and ${changes.length - max} more`);
  return lines;
}

function changeLine(change: Change, reason: string | undefined, colour: boolean): string {
  const name = change.from === undefined ? inert(change.path) : `${inert(change.from)} → ${inert(change.path)}`;
  const slash = change.type === "dir" ? "/" : "";
  const note = reason === undefined ? flagNote(change, colour) : `  ${paint(`refused: ${inert(reason)}`, 31, colour)}`;
  return `  ${paint(MARK[change.kind], COLOUR[change.kind], colour)} ${name}${slash}${note}`;
}

function flagNote(change: Change, colour: boolean): string {
  return change.flag === undefined ? "" : `  ${paint(`look twice: ${inert(change.flag)}`, 33, colour)}`;
}

/** `3 added, 1 modified, 2 refused`. */
export function tally(changes: readonly Change[], refused: readonly Refusal[]): string {
  if (changes.length === 0 && refused.length === 0) return "no changes";
  const words: Readonly<Record<Change["kind"], string>> = {
    add: "added",
    modify: "modified",
    delete: "deleted",
    rename: "renamed",
    mode: "mode changed",
  };
  const counts = (Object.keys(words) as Change["kind"][])
    .map((kind) => [words[kind], changes.filter((change) => change.kind === kind).length] as const)
    .filter(([, count]) => count > 0)
    .map(([word, count]) => `${count} ${word}`);
  if (refused.length > 0) counts.push(`${refused.length} refused`);
  return counts.join(", ");
}

/** What a commit left out, one line each. */
export function commitLines(result: CommitResult, options: SummaryOptions): readonly string[] {
  const max = options.maxLines ?? LINES_SHOWN;
  const lines = [
    ...result.refused.map(({ path, reason }) => `  ${paint("!", 31, options.colour)} ${inert(path)}  refused: ${inert(reason)}`),
    ...result.conflicts.map(({ path, reason }) => `  ${paint("!", 31, options.colour)} ${inert(path)}  conflict: ${inert(reason)}`),
    ...result.dropped.map(({ path, reason }) => `  ${paint("-", 33, options.colour)} ${inert(path)}  left out: ${inert(reason)}`),
  ];
  return lines.length > max ? [...lines.slice(0, max), `  … and ${lines.length - max} more`] : lines;
}

export function committedWords(result: CommitResult): string {
  return formatCount(result.committed.length, "change");
}

export function paint(text: string, colour: number, on: boolean): string {
  return on ? `\u001b[${colour}m${text}\u001b[0m` : text;
}

/** Whether a stream takes colours: a terminal, and nobody said no. */
export function coloured(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && process.env["NO_COLOR"] === undefined && process.env["TERM"] !== "dumb";
}
