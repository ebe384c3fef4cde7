// Commits a delta: judge, choose, look for conflicts, apply as one. Where it goes is a target: the live directory (commit-live.ts), or
// the store that the codebase lies in. Not a decision of a person: what they accepted comes in `CommitOptions`.
// Invariant: nothing is applied that was refused or is in conflict, and of what is applied either all or nothing stands.

import type { CommitOptions } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import type { CommitResult, Refusal } from "../api/sandbox.ts";
import { printable } from "../policy/bytes.ts";
import { readChanges, toChange, type DeltaChange, type DeltaChanges, type DeltaInput } from "./changes.ts";
import { flagChanges } from "./flags.ts";
import { judge } from "./judge.ts";
import { readRebased } from "./kept.ts";
import { planOperations, type PlannedOperation } from "./operations.ts";
import { choose, named } from "./select.ts";
import { Contents } from "./stage.ts";

export interface CommitInput extends DeltaInput {
  /** Directory of all deltas. */
  readonly deltas: string;
  readonly sandboxId: string;
}

/** What is in the way: reasons by change. `undefined` stands for what belongs to no change. */
export type InTheWay = ReadonlyMap<DeltaChange | undefined, string>;

/** Operations of one commit, and the delta that they come from. */
export interface CommitPlan {
  readonly delta: DeltaChanges;
  readonly operations: readonly PlannedOperation[];
  /** Nothing of the delta is left once they are applied. */
  readonly whole: boolean;
}

export interface CommitTarget {
  /** Ends a commit of this delta that was cut off. Throws `sandbox_state` while another is under way. */
  settle(): Promise<void>;
  /** The operations that are left to do, or what is in their way. */
  check(plan: CommitPlan): Promise<readonly PlannedOperation[] | InTheWay>;
  /** All or nothing. `moved`: the codebase changed since the check, look again; or what turned out to be in the way. */
  apply(plan: CommitPlan): Promise<"applied" | "moved" | InTheWay>;
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
export async function commitDelta(input: CommitInput, target: CommitTarget, options: CommitOptions = {}): Promise<DeltaCommit> {
  await target.settle();
  const conflicts = new Map<string, string>();
  for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
    const done = await attempt(await prepare(input, options, conflicts), target);
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
  const flags = await readFlags(input, delta);
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

export async function readFlags(
  input: DeltaInput,
  { changes, placeOf }: Pick<DeltaChanges, "changes" | "placeOf">,
): Promise<ReadonlyMap<DeltaChange, string>> {
  let contents: Contents | undefined;
  const open = (): Contents => (contents ??= new Contents(input, placeOf));
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
async function attempt(round: Round, target: CommitTarget): Promise<DeltaCommit | undefined> {
  const { delta, asked, refused, dropped, conflicts, others, options } = round;
  const conflicting = delta.changes.filter(({ path }) => conflicts.has(path));
  const { chosen, dependent } = choose(delta.changes, asked, new Set([...refused.keys(), ...dropped.keys(), ...conflicting]));
  for (const [change, why] of dependent) refused.set(change, why);
  if (options.partial !== true && refused.size + others.length > 0) throw refusal(round);
  const whole = chosen.length === delta.changes.length && others.length === 0;
  const operations = await target.check({ delta, operations: planOperations(chosen, delta.entryNow), whole });
  if (isInTheWay(operations)) return leaveOut(round, operations);
  if (operations.length > 0) {
    const outcome = await target.apply({ delta, operations, whole });
    if (outcome === "moved") return undefined;
    if (outcome !== "applied") return leaveOut(round, outcome);
  }
  return { committed: chosen.map((change) => toChange(change, round.flags.get(change))), ...lists(round), whole };
}

function isInTheWay(checked: readonly PlannedOperation[] | InTheWay): checked is InTheWay {
  return checked instanceof Map;
}

/** What is in conflict is left out of the next round, where that may be. */
function leaveOut(round: Round, inTheWay: InTheWay): undefined {
  for (const [change, why] of inTheWay) if (change !== undefined) round.conflicts.set(change.path, why);
  if (inTheWay.has(undefined) || round.options.partial !== true) throw conflict(round);
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
