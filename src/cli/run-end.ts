// The end of `corral run`: shows what the command changed and carries out what was told, or asked, to become of it.
// Invariant: a delta goes only when it was committed or somebody said so; whatever else happens it is kept, and its name is printed.

import type { Corral } from "../api/corral.ts";
import { errorCode } from "../api/errors.ts";
import type { Change, CommitResult, ExecResult, Refusal, SandboxInfo } from "../api/sandbox.ts";
import type { Interruption } from "./interrupt.ts";
import type { Ending } from "./run-options.ts";
import { changeLines, coloured, commitLines, committedWords, tally } from "./summary.ts";
import { tell, tellError } from "./tell.ts";
import { formatMs } from "./units.ts";

export interface EndRequest {
  readonly corral: Corral;
  readonly info: SandboxInfo;
  readonly result: ExecResult | undefined;
  readonly ending: Ending;
  readonly json: boolean;
  readonly stop: Interruption;
}

export interface RunEnd {
  readonly changes: readonly Change[];
  readonly refused: readonly Refusal[];
  readonly committed: boolean;
  /** A commit was asked for and not, or not wholly, done. */
  readonly failed: boolean;
  /** The person left the prompt (Ctrl-C, Esc). */
  readonly left: boolean;
}

type Step = "commit" | "keep" | "discard" | "ask";

export async function endRun(request: EndRequest): Promise<RunEnd> {
  const { corral, info, result, stop } = request;
  const { changes, refused } = await corral.deltas.changes(info.id);
  const colour = coloured(process.stderr);
  tell(headline(result, info, stop));
  for (const line of changeLines(changes, refused, { colour })) process.stderr.write(`${line}\n`);
  const end = { changes, refused, committed: false, failed: false, left: false };
  switch (nextStep(request, changes.length + refused.length)) {
    case "commit":
      return await commit(request, end, {});
    case "keep":
      tellKept(info.id, tally(changes, refused));
      return end;
    case "ask":
      return await asked(request, end);
    case "discard":
      await corral.deltas.discard(info.id);
      tell(`${tally(changes, refused)}${discardReason(request, changes)}`);
      return end;
  }
}

/** What happened, in one line. */
function headline(result: ExecResult | undefined, info: SandboxInfo, stop: Interruption): string {
  const where = `${info.runtime}, ${info.engine} engine`;
  if (result === undefined || stop.signal !== undefined) return `interrupted · ${where}`;
  const limit = result.limitHit === null ? "" : ` · ${result.limitHit} limit reached`;
  const how = result.timedOut ? "timed out" : result.signal === null ? `exit ${result.exitCode}` : `ended by ${result.signal}`;
  return `${how} after ${formatMs(result.durationMs)}${limit} · ${where}`;
}

function nextStep({ ending, json, stop }: EndRequest, entries: number): Step {
  const canAsk = !json && process.stdin.isTTY && process.stderr.isTTY;
  // A run that was interrupted did not finish its work: nobody has said yes to half of it.
  if (stop.signal !== undefined) {
    if (entries > 0 && (ending === "yes" || ending === "keep" || (ending === "ask" && canAsk))) return "keep";
    return ending === "keep" ? "keep" : "discard";
  }
  if (ending === "keep") return "keep";
  if (entries === 0 || ending === "discard") return "discard";
  if (ending === "yes") return "commit";
  return canAsk ? "ask" : "discard";
}

function discardReason({ ending, stop }: EndRequest, changes: readonly Change[]): string {
  if (changes.length === 0) return "";
  if (ending === "discard" || stop.signal !== undefined) return "; discarded";
  return "; discarded, since there is no terminal to ask on (--yes accepts, --keep keeps)";
}

async function asked(request: EndRequest, end: RunEnd): Promise<RunEnd> {
  const { corral, info, stop } = request;
  tell(tally(end.changes, end.refused));
  // Loaded only here: most runs never ask, and prompts take milliseconds to load.
  const { askDecision } = await import("./review.ts");
  const decision = await askDecision({
    deltas: corral.deltas,
    sandboxId: info.id,
    changes: end.changes,
    refused: end.refused,
    signal: stop.soft,
  });
  if (decision.kind === "discard") {
    await corral.deltas.discard(info.id);
    tell("discarded; the codebase is as it was");
    return end;
  }
  if (decision.kind !== "accept") {
    tellKept(info.id, tally(end.changes, end.refused));
    return { ...end, left: decision.kind === "left" };
  }
  // A person saw each flag in the list above and said yes; what is refused was shown as left out.
  return await commit(request, end, {
    acceptFlagged: true,
    partial: true,
    ...(decision.paths === undefined ? {} : { paths: decision.paths }),
  });
}

async function commit(
  request: EndRequest,
  end: RunEnd,
  options: { partial?: boolean; acceptFlagged?: boolean; paths?: readonly string[] },
): Promise<RunEnd> {
  const { corral, info } = request;
  let done: CommitResult;
  try {
    done = await corral.deltas.commit(info.id, options);
  } catch (error) {
    tellError(error);
    tellKept(info.id, tally(end.changes, end.refused));
    if (errorCode(error) === "commit_refused" && end.changes.some(({ flag }) => flag !== undefined)) tellFlagged(info.id);
    return { ...end, refused: [...end.refused, ...conflictsOf(error, end.refused)], failed: true };
  }
  for (const line of commitLines(done, { colour: coloured(process.stderr) })) process.stderr.write(`${line}\n`);
  const refused = [...done.refused, ...done.conflicts];
  tell(`accepted ${committedWords(done)}${refused.length === 0 ? "" : `, ${refused.length} not applied`}`);
  if (done.conflicts.length > 0) {
    tellKept(info.id, "what was not applied is still there");
    return { ...end, refused, committed: done.committed.length > 0, failed: true };
  }
  await corral.deltas.discard(info.id).catch((error: unknown) => {
    // A commit may have taken the whole delta with it.
    if (errorCode(error) !== "delta_not_found") throw error;
  });
  return { ...end, refused, committed: true };
}

/** Conflicts and refusals that a refused commit names and that were not known before. */
function conflictsOf(error: unknown, known: readonly Refusal[]): readonly Refusal[] {
  const { details } = error as { readonly details?: { readonly refused?: readonly Refusal[]; readonly conflicts?: readonly Refusal[] } };
  const paths = new Set(known.map(({ path }) => path));
  return [...(details?.refused ?? []), ...(details?.conflicts ?? [])].filter(({ path }) => !paths.has(path));
}

/** Changes that will run on this machine want a person's eyes; --yes alone does not take them. */
function tellFlagged(sandboxId: string): void {
  process.stderr.write(`  corral commit ${sandboxId} --accept-flagged  # with what runs on this machine later\n`);
}

/** The lines that `--keep` prints. */
export function tellKept(sandboxId: string, what: string): void {
  tell(`${what}; kept`);
  for (const [verb, meaning] of [
    ["diff", "look at it"],
    ["commit", "accept it"],
    ["discard", "throw it away"],
  ] as const) {
    process.stderr.write(`  corral ${verb} ${sandboxId}${" ".repeat(9 - verb.length)}# ${meaning}\n`);
  }
}
