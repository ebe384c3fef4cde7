// Asks a person what becomes of a delta: accept, review file by file, keep, discard. Prompts go to stderr; stdout is the program's.
// Invariant: nothing is accepted that was not shown by name, and leaving a prompt (Ctrl-C, Esc) accepts nothing and loses nothing.

import { isCancel, select } from "@clack/prompts";
import type { Corral } from "../api/corral.ts";
import type { Change, Refusal } from "../api/sandbox.ts";
import { inert, inertLines } from "../base/inert.ts";
import { changeLines, coloured, paint } from "./summary.ts";

export type Decision = { readonly kind: "accept"; readonly paths?: readonly string[] } | { readonly kind: "keep" | "discard" | "left" };

export interface ReviewRequest {
  readonly deltas: Corral["deltas"];
  readonly sandboxId: string;
  readonly changes: readonly Change[];
  readonly refused: readonly Refusal[];
  /** Aborted when a signal asks us to end: the prompt goes away. */
  readonly signal: AbortSignal;
}

/** Lines of a window that prompts and headings need. */
const WINDOW_RESERVE = 9;

export async function askDecision(request: ReviewRequest): Promise<Decision> {
  const { refused } = request;
  for (;;) {
    const answer = await ask(request, "What becomes of these changes?", [
      { value: "accept", label: "Accept", hint: refused.length === 0 ? "write them to the codebase" : "the refused ones are left out" },
      { value: "review", label: "Review", hint: "look at each file and choose" },
      { value: "keep", label: "Keep", hint: "decide later" },
      { value: "discard", label: "Discard", hint: "the codebase stays as it is" },
    ]);
    if (answer === undefined) return { kind: "left" };
    if (answer !== "review") return { kind: answer };
    const decision = await review(request);
    if (decision !== "back") return decision;
  }
}

type FileAnswer = "take" | "leave" | "more" | "take-rest" | "leave-rest" | "back";

async function review(request: ReviewRequest): Promise<Decision | "back"> {
  const refusedPaths = new Set(request.refused.map(({ path }) => path));
  const open = request.changes.filter(({ path }) => !refusedPaths.has(path));
  const taken: string[] = [];
  for (const [index, change] of open.entries()) {
    const answer = await reviewOne(request, change, `${index + 1} of ${open.length}`);
    if (answer === undefined) return { kind: "left" };
    if (answer === "back") return "back";
    if (answer === "take") taken.push(change.path);
    if (answer === "take-rest") taken.push(...open.slice(index).map(({ path }) => path));
    if (answer === "take-rest" || answer === "leave-rest") break;
  }
  return await confirmTaken(request, taken, open.length);
}

async function confirmTaken(request: ReviewRequest, taken: readonly string[], total: number): Promise<Decision | "back"> {
  if (taken.length === 0) process.stderr.write("Nothing was chosen.\n");
  const accept = { value: "accept" as const, label: `Accept ${taken.length} of ${total}`, hint: "what was left out is discarded" };
  const answer = await ask(request, "End of the review", [
    ...(taken.length === 0 ? [] : [accept]),
    { value: "back", label: "Back", hint: "start over" },
    { value: "keep", label: "Keep", hint: "decide later" },
    { value: "discard", label: "Discard all" },
  ]);
  if (answer === undefined) return { kind: "left" };
  if (answer === "back") return "back";
  return answer === "accept" ? { kind: "accept", paths: taken } : { kind: answer };
}

async function reviewOne(request: ReviewRequest, change: Change, place: string): Promise<FileAnswer | undefined> {
  const colour = coloured(process.stderr);
  process.stderr.write(`\n${paint(`─── ${place} `, 2, colour)}${changeLines([change], request.refused, { colour }).join("").trim()}\n`);
  const pages = await diffPages(request, change.path);
  for (let page = 0; ; page++) {
    process.stderr.write(colourDiff(pages[page] ?? "", colour));
    const rest = pages.length - page - 1;
    const answer = await ask<FileAnswer>(request, inert(change.path), [
      ...(rest > 0 ? [{ value: "more" as const, label: "Show more", hint: `${rest} page${rest === 1 ? "" : "s"} left` }] : []),
      { value: "take", label: "Accept this one" },
      { value: "leave", label: "Leave it out" },
      { value: "take-rest", label: "Accept it and all that follow", hint: "without a look" },
      { value: "leave-rest", label: "Leave it and all that follow out" },
      { value: "back", label: "Back" },
    ]);
    if (answer !== "more") return answer;
  }
}

/** Bytes of one file's diff that are paged; a longer one says so. */
const MAX_DIFF_BYTES = 1024 * 1024;

async function diffPages(request: ReviewRequest, path: string): Promise<readonly string[]> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.deltas.text(request.sandboxId, [path])) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_DIFF_BYTES) break;
  }
  const lines = inertLines(Buffer.concat(chunks).toString("utf8")).split("\n");
  if (bytes > MAX_DIFF_BYTES)
    lines.push(`(the diff is longer than ${MAX_DIFF_BYTES} bytes; corral diff ${request.sandboxId} shows all of it)`);
  const height = Math.max(10, (process.stderr.rows ?? 24) - WINDOW_RESERVE);
  const pages: string[] = [];
  for (let at = 0; at < lines.length; at += height) pages.push(`${lines.slice(at, at + height).join("\n")}\n`);
  return pages;
}

/** Colours a diff that is inert already. */
export function colourDiff(text: string, on: boolean): string {
  if (!on) return text;
  const colours: Readonly<Record<string, number>> = { "+": 32, "-": 31, "@": 36 };
  return text
    .split("\n")
    .map((line) => {
      const colour = colours[line.charAt(0)];
      return colour === undefined ? line : paint(line, colour, true);
    })
    .join("\n");
}

interface Choice<Value extends string> {
  readonly value: Value;
  readonly label: string;
  readonly hint?: string;
}

async function ask<Value extends string>(
  request: ReviewRequest,
  message: string,
  choices: readonly Choice<Value>[],
): Promise<Value | undefined> {
  // The widened element type is what the prompt's conditional option type can be given.
  const options = choices.map(({ value, label, hint }) => ({ value: value as string, label, ...(hint === undefined ? {} : { hint }) }));
  const answer = await select({ message, options, input: process.stdin, output: process.stderr, signal: request.signal });
  if (isCancel(answer)) return undefined;
  return choices.find(({ value }) => value === answer)?.value;
}
