// Commits a delta into the live codebase: judge, choose, look for conflicts, apply as one. The bytes are moved by the guest's stage
// tool; what is written down here makes a commit that is cut off known to the next start.
// Not a decision of a person: what they accepted comes in `CommitOptions`.
// Invariant: nothing is applied that was refused or is in conflict, and of what is applied either all or nothing stands.

import type { CommitOptions } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import type { CommitResult, Refusal } from "../api/sandbox.ts";
import { identify } from "../base/process-identity.ts";
import { randomText } from "../base/random-text.ts";
import { printable } from "../policy/bytes.ts";
import { apply, recover, type ApplyOutcome } from "./apply.ts";
import { readChanges, toChange, type DeltaChange, type DeltaChanges, type DeltaInput } from "./changes.ts";
import { flagChanges } from "./flags.ts";
import { STAGING_PREFIX } from "./codebase.ts";
import { judge } from "./judge.ts";
import { readRebased, writeCommit } from "./kept.ts";
import { conflictAt, expectations, planOperations, type PlannedOperation } from "./operations.ts";
import { finishApplied, finishNothing, recoverCommit } from "./recover.ts";
import { choose, named } from "./select.ts";
import { Contents, probe } from "./stage.ts";

export interface CommitInput extends DeltaInput {
  /** Directory of all deltas. */
  readonly deltas: string;
  readonly sandboxId: string;
  /** For tests of crashes alone: extra arguments of the stage tool. */
  readonly failpoint?: readonly string[];
}

export interface DeltaCommit extends CommitResult {
  /** Nothing of the delta is left: it can be discarded. */
  readonly whole: boolean;
}

/** How often a partial commit leaves out what turns out to be in conflict before it gives up. */
const MAX_ROUNDS = 64;

interface Round {
  readonly input: CommitInput;
  readonly options: CommitOptions;
  readonly delta: DeltaChanges;
  readonly asked: ReadonlySet<DeltaChange>;
  readonly refused: Map<DeltaChange, string>;
  readonly dropped: ReadonlyMap<DeltaChange, string>;
  readonly others: readonly Refusal[];
  readonly flags: ReadonlyMap<DeltaChange, string>;
  /** By path: what was found in one round holds in the next. */
  readonly conflicts: Map<string, string>;
}

/** Throws `commit_refused`, `commit_conflict` (both with `details.refused` and `details.conflicts`), `disk_full`, `commit_failed`, `sandbox_state`. */
export async function commitDelta(input: CommitInput, options: CommitOptions = {}): Promise<DeltaCommit> {
  const left = await recoverCommit(input.tool, input.deltas, input.sandboxId);
  if (left?.outcome === "busy") throw new CorralError("sandbox_state", "another commit of this delta is under way; wait for it to end");
  const conflicts = new Map<string, string>();
  for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
    const done = await attempt(await prepare(input, options, conflicts));
    if (done !== undefined) return done;
  }
  throw new CorralError(
    "commit_conflict",
    "the codebase changes faster than it can be committed to; stop what writes to it and commit again",
    {
      details: { refused: [], conflicts: [...conflicts].map(([path, reason]) => ({ path: printable(path), reason })) },
    },
  );
}

/** Reads the delta anew: an attempt that was taken back has given what it touched new times. */
async function prepare(input: CommitInput, options: CommitOptions, conflicts: Map<string, string>): Promise<Round> {
  const delta = await readChanges({ ...input, rebased: readRebased(input.deltas, input.sandboxId) });
  const { refused, dropped, others } = judge(delta, input.policy);
  const flags = await readFlags(input, delta.changes);
  const asked = named(delta.changes, options.paths);
  const all = new Map(refused);
  if (options.acceptFlagged !== true) {
    for (const [change, why] of flags)
      if (!all.has(change)) all.set(change, `it ${why}; look at it and accept flagged entries by name (acceptFlagged)`);
  }
  const concerns = ({ path }: Refusal): boolean =>
    options.paths === undefined || [...asked].some((change) => printable(change.path).startsWith(`${path}/`));
  return {
    input,
    options,
    delta,
    asked,
    flags,
    refused: only(all, asked),
    dropped: only(dropped, asked),
    others: others.filter(concerns),
    conflicts,
  };
}

function only(reasons: ReadonlyMap<DeltaChange, string>, asked: ReadonlySet<DeltaChange>): Map<DeltaChange, string> {
  return new Map([...reasons].filter(([change]) => asked.has(change)));
}

export async function readFlags(input: DeltaInput, changes: readonly DeltaChange[]): Promise<ReadonlyMap<DeltaChange, string>> {
  let contents: Contents | undefined;
  const open = (): Contents => (contents ??= new Contents(input.tool, input.upper, input.base));
  try {
    const flags = await flagChanges(changes, open);
    await contents?.close();
    return flags;
  } catch (error) {
    await contents?.abandon();
    throw error;
  }
}

/** `undefined`: something was in conflict and is left out now; try again. */
async function attempt(round: Round): Promise<DeltaCommit | undefined> {
  const { delta, asked, refused, dropped, conflicts, others, options } = round;
  const conflicting = delta.changes.filter(({ path }) => conflicts.has(path));
  const { chosen, dependent } = choose(delta.changes, asked, new Set([...refused.keys(), ...dropped.keys(), ...conflicting]));
  for (const [change, why] of dependent) refused.set(change, why);
  if (options.partial !== true && refused.size + others.length > 0) throw refusal(round);
  const operations = await findConflicts(round, planOperations(chosen, delta.entryNow));
  if (operations === undefined) {
    if (options.partial !== true) throw conflict(round);
    return undefined;
  }
  const whole = chosen.length === delta.changes.length && others.length === 0;
  if (operations.length > 0 && !(await applyOnce(round, operations, whole))) return undefined;
  return { committed: chosen.map((change) => toChange(change, round.flags.get(change))), ...lists(round), whole };
}

/** The operations that are left to do, or `undefined` when the codebase moved under some of them. */
async function findConflicts(
  { input, delta, conflicts }: Round,
  operations: readonly PlannedOperation[],
): Promise<readonly PlannedOperation[] | undefined> {
  const expected = expectations(operations, delta.entryNow);
  const paths = [...expected.keys()];
  const now = await probe(input.tool, input.base, paths);
  const there = new Set<string>();
  const before = conflicts.size;
  paths.forEach((path, index) => {
    const expectation = expected.get(path);
    const why = expectation === undefined ? undefined : conflictAt(expectation, now[index]);
    if (expectation === undefined || why === undefined) return;
    const { change } = expectation.operation;
    if (change !== undefined) conflicts.set(change.path, why);
    // A directory that only has to be there may be there by now.
    else if (now[index]?.kind === "dir") there.add(path);
  });
  return conflicts.size > before ? undefined : operations.filter(({ path, change }) => change !== undefined || !there.has(path));
}

/** False: an operation turned out to be in conflict and everything was taken back. */
async function applyOnce(round: Round, operations: readonly PlannedOperation[], whole: boolean): Promise<boolean> {
  const { input, delta } = round;
  const stage = `${STAGING_PREFIX}${input.sandboxId}-${randomText(8)}`;
  const record = { stage, codebaseDir: input.base, state: "started", process: identify(process.pid) ?? null, whole } as const;
  writeCommit(input.deltas, input.sandboxId, record);
  const { tool, base, upper, failpoint = [] } = input;
  const request = { tool, base, upper, stage, rootIno: delta.rootIno, operations, failpoint };
  const outcome = await apply(request).catch(async (error: unknown) => await afterCrash(input, stage, error));
  if (outcome.outcome === "applied") {
    const targets = new Map(operations.flatMap(({ path, target }) => (target === undefined ? [] : [[path, target] as const])));
    await finishApplied({ tool, deltas: input.deltas, sandboxId: input.sandboxId, record, signatures: outcome.signatures, targets });
    return true;
  }
  if (outcome.outcome === "stuck") throw stuck(outcome, stage);
  await finishNothing({ tool, deltas: input.deltas, sandboxId: input.sandboxId, record, signatures: outcome.signatures });
  return explain(round, operations, outcome);
}

/** The tool died. A test's failpoint stands for this process dying with it, so then nobody is there to continue. */
async function afterCrash({ tool, base, failpoint = [] }: CommitInput, stage: string, error: unknown): Promise<ApplyOutcome> {
  if (failpoint.length > 0) throw error;
  const end = await recover(tool, base, stage, { clean: false });
  if (end.outcome === "applied" || end.outcome === "stuck") return end;
  const message = error instanceof Error ? error.message : String(error);
  return { ...end, what: `the stage tool ended early: ${message}` };
}

export function stuck({ stuckPaths }: ApplyOutcome, stage: string): CorralError {
  const some = stuckPaths.slice(0, 5).map(printable).join(", ");
  return new CorralError(
    "commit_failed",
    `the commit failed and was taken back, but for ${stuckPaths.length} paths that another program changed meanwhile (${some}); what stood there lies in ${stage}/ in the codebase: put it in place by hand, then remove that directory`,
  );
}

const SPACE_ERRNOS: ReadonlySet<number> = new Set([28 /* ENOSPC */, 122 /* EDQUOT */]);
/** ENOENT EEXIST EXDEV ENOTDIR EISDIR ENOTEMPTY ELOOP ESTALE: what a codebase that is edited meanwhile answers. */
const MOVED_ERRNOS: ReadonlySet<number> = new Set([2, 17, 18, 20, 21, 39, 40, 116]);

/** Nothing was applied: says why, or leaves what was in conflict out. */
function explain(round: Round, operations: readonly PlannedOperation[], { errno, operation, what }: ApplyOutcome): false {
  if (SPACE_ERRNOS.has(errno))
    throw new CorralError("disk_full", `the commit needs more space than the disk of the codebase has (${what}); nothing was applied`);
  const failed = operation === undefined ? undefined : operations[operation];
  if (failed === undefined || !MOVED_ERRNOS.has(errno)) {
    throw new CorralError(
      "commit_failed",
      `the codebase could not be changed: ${what}${failed === undefined ? "" : ` (${printable(failed.path)})`}, errno ${errno}; nothing was applied`,
    );
  }
  if (what === "staging an entry" && failed.source?.root === "upper") {
    throw new CorralError(
      "sandbox_state",
      `${printable(failed.path)} changed while it was committed: something still writes to the sandbox; stop it and commit again. Nothing was applied`,
    );
  }
  if (failed.change === undefined) throw conflict(round);
  round.conflicts.set(
    failed.change.path,
    errno === 39 ? "the codebase has something new in this directory" : "it was changed in the codebase meanwhile",
  );
  if (round.options.partial !== true) throw conflict(round);
  return false;
}

function lists({ refused, conflicts, dropped, others }: Round): Omit<CommitResult, "committed"> {
  const list = (reasons: Iterable<readonly [DeltaChange, string]>): Refusal[] =>
    [...reasons].map(([change, reason]) => ({ path: printable(change.path), reason }));
  return {
    refused: [...list(refused), ...others],
    conflicts: [...conflicts].map(([path, reason]) => ({ path: printable(path), reason })),
    dropped: list(dropped),
  };
}

function details(round: Round): { readonly refused: readonly Refusal[]; readonly conflicts: readonly Refusal[] } {
  const { refused, conflicts } = lists(round);
  return { refused, conflicts };
}

function refusal(round: Round): CorralError {
  const { refused } = lists(round);
  return new CorralError(
    "commit_refused",
    `nothing was applied: ${summary(refused, "refused")}; leave them out with partial, or choose paths`,
    { details: details(round) },
  );
}

function conflict(round: Round): CorralError {
  const { conflicts } = lists(round);
  return new CorralError(
    "commit_conflict",
    `nothing was applied: ${summary(conflicts, "in conflict")}; look at the paths, then commit the rest with partial`,
    { details: details(round) },
  );
}

function summary(entries: readonly Refusal[], what: string): string {
  const [first] = entries;
  const one = first === undefined ? "" : `: ${first.path}: ${first.reason}`;
  return entries.length === 1 ? `1 entry is ${what}${one}` : `${entries.length} entries are ${what}, the first${one}`;
}
