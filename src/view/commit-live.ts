// The live directory as the target of a commit. The bytes are moved by the guest's stage tool; what is written down here makes a commit
// that is cut off known to the next start. Not a choice of what is committed: that is commit.ts's.
// Invariant: nothing is applied where the directory holds anything else than the delta was made over, and all or nothing is.

import { CorralError } from "../api/errors.ts";
import { identify } from "../base/process-identity.ts";
import { randomText } from "../base/random-text.ts";
import { printable } from "../policy/bytes.ts";
import { apply, recover, type ApplyOutcome } from "./apply.ts";
import type { DeltaChange } from "./changes.ts";
import { STAGING_PREFIX } from "./codebase.ts";
import type { CommitInput, CommitPlan, CommitTarget, InTheWay } from "./commit.ts";
import { writeCommit } from "./kept.ts";
import { conflictAt, expectations, type PlannedOperation } from "./operations.ts";
import { finishApplied, finishNothing, recoverCommit } from "./recover.ts";
import { probe } from "./stage.ts";

/** `failpoint`: extra arguments of the stage tool, for tests of crashes alone. */
export function liveTarget(input: CommitInput, failpoint: readonly string[] = []): CommitTarget {
  return {
    settle: async () => {
      const left = await recoverCommit(input.tool, input.deltas, input.sandboxId);
      if (left?.outcome === "busy") throw new CorralError("sandbox_state", "another commit of this delta is under way; wait for it to end");
    },
    check: (plan) => check(input, plan),
    apply: (plan) => applyOnce({ input, failpoint }, plan),
  };
}

async function check({ tool, base }: CommitInput, { delta, operations }: CommitPlan): Promise<readonly PlannedOperation[] | InTheWay> {
  const expected = expectations(operations, delta.entryNow);
  const paths = [...expected.keys()];
  const now = await probe(tool, base, paths);
  const there = new Set<string>();
  const inTheWay = new Map<DeltaChange | undefined, string>();
  paths.forEach((path, index) => {
    const expectation = expected.get(path);
    const why = expectation === undefined ? undefined : conflictAt(expectation, now[index]);
    if (expectation === undefined || why === undefined) return;
    const { change } = expectation.operation;
    if (change !== undefined) inTheWay.set(change, why);
    // A directory that only has to be there may be there by now.
    else if (now[index]?.kind === "dir") there.add(path);
  });
  return inTheWay.size > 0 ? inTheWay : operations.filter(({ path, change }) => change !== undefined || !there.has(path));
}

interface Live {
  readonly input: CommitInput;
  readonly failpoint: readonly string[];
}

async function applyOnce(live: Live, { delta, operations, whole }: CommitPlan): Promise<"applied" | InTheWay> {
  const { input, failpoint } = live;
  const stage = `${STAGING_PREFIX}${input.sandboxId}-${randomText(8)}`;
  const record = { stage, codebaseDir: input.base, state: "started", process: identify(process.pid) ?? null, whole } as const;
  writeCommit(input.deltas, input.sandboxId, record);
  const { tool, base, upper } = input;
  const request = { tool, base, upper, stage, rootIno: delta.rootIno, operations, failpoint };
  const outcome = await apply(request).catch(async (error: unknown) => await afterCrash(live, stage, error));
  if (outcome.outcome === "applied") {
    const targets = new Map(operations.flatMap(({ path, target }) => (target === undefined ? [] : [[path, target] as const])));
    await finishApplied({ tool, deltas: input.deltas, sandboxId: input.sandboxId, record, signatures: outcome.signatures, targets });
    return "applied";
  }
  if (outcome.outcome === "stuck") throw stuck(outcome, stage);
  await finishNothing({ tool, deltas: input.deltas, sandboxId: input.sandboxId, record, signatures: outcome.signatures });
  return explain(operations, outcome);
}

/** The tool died. A test's failpoint stands for this process dying with it, so then nobody is there to continue. */
async function afterCrash({ input: { tool, base }, failpoint }: Live, stage: string, error: unknown): Promise<ApplyOutcome> {
  if (failpoint.length > 0) throw error;
  const end = await recover(tool, base, stage, { clean: false });
  if (end.outcome === "applied" || end.outcome === "stuck") return end;
  const message = error instanceof Error ? error.message : String(error);
  return { ...end, what: `the stage tool ended early: ${message}` };
}

function stuck({ stuckPaths }: ApplyOutcome, stage: string): CorralError {
  const some = stuckPaths.slice(0, 5).map(printable).join(", ");
  return new CorralError(
    "commit_failed",
    `the commit failed and was taken back, but for ${stuckPaths.length} paths that another program changed meanwhile (${some}); what stood there lies in ${stage}/ in the codebase: put it in place by hand, then remove that directory`,
  );
}

const SPACE_ERRNOS: ReadonlySet<number> = new Set([28 /* ENOSPC */, 122 /* EDQUOT */]);
/** ENOENT EEXIST EXDEV ENOTDIR EISDIR ENOTEMPTY ELOOP ESTALE: what a codebase that is edited meanwhile answers. */
const MOVED_ERRNOS: ReadonlySet<number> = new Set([2, 17, 18, 20, 21, 39, 40, 116]);

/** Nothing was applied: throws why, or says what was in the way. */
function explain(operations: readonly PlannedOperation[], { errno, operation, what }: ApplyOutcome): InTheWay {
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
  const why = errno === 39 ? "the codebase has something new in this directory" : "it was changed in the codebase meanwhile";
  return new Map([[failed.change, why]]);
}
