// Ends commits: writes down what came of one, then clears its staging directory; and brings commits that were cut off to their end.
// The order is the argument: outcome on disk first, staging directory away after, so that no crash leaves an outcome unknown.
// Invariant: only a staging directory that commit.json names is touched, and none of a process that still lives.

import { CorralError } from "../api/errors.ts";
import { isAlive } from "../base/process-identity.ts";
import { recover, type ApplyOutcome } from "./apply.ts";
import { listCommits, readCommit, readRebased, writeCommit, writeRebased, type CommitRecord, type Rebased } from "./kept.ts";
import { Contents, type Signature } from "./stage.ts";
import type { RunTool } from "./view.ts";

export interface FinishRequest {
  readonly tool: RunTool;
  readonly deltas: string;
  readonly sandboxId: string;
  readonly record: CommitRecord;
  readonly signatures: ReadonlyMap<string, Signature | undefined>;
  /** Targets of the links that were put in place. */
  readonly targets?: ReadonlyMap<string, string>;
}

export async function finishApplied(request: FinishRequest): Promise<void> {
  const { tool, deltas, sandboxId, record } = request;
  await rebase(request);
  writeCommit(deltas, sandboxId, { ...record, state: "applied" });
  await clean(tool, record);
  writeCommit(deltas, sandboxId, undefined);
}

/** Nothing was applied; but what was taken back has new change times, which must not look like somebody's edit. */
export async function finishNothing(request: FinishRequest): Promise<void> {
  const { tool, deltas, sandboxId, record } = request;
  await rebase(request);
  await clean(tool, record);
  writeCommit(deltas, sandboxId, undefined);
}

async function clean(tool: RunTool, { codebaseDir, stage }: CommitRecord): Promise<void> {
  const { errno, what } = await recover(tool, codebaseDir, stage, { clean: true });
  if (what === CLEANING && errno !== 0) {
    throw new CorralError(
      "commit_failed",
      `the commit is done, but ${stage}/ in the codebase could not be removed (errno ${errno}); the next start tries again`,
    );
  }
}

const CLEANING = "removing the staging directory";

async function rebase({ tool, deltas, sandboxId, record, signatures, targets }: FinishRequest): Promise<void> {
  if (signatures.size === 0) return;
  const rebased = new Map<string, Rebased>(readRebased(deltas, sandboxId));
  const links = targets ?? (await readTargets(tool, record.codebaseDir, signatures));
  for (const path of [...signatures.keys()].sort()) rebased.set(path, { signature: signatures.get(path), target: links.get(path) ?? "" });
  writeRebased(deltas, sandboxId, rebased);
}

async function readTargets(
  tool: RunTool,
  base: string,
  signatures: ReadonlyMap<string, Signature | undefined>,
): Promise<ReadonlyMap<string, string>> {
  const targets = new Map<string, string>();
  const contents = new Contents({ tool, upper: base, base }, (path) => path);
  try {
    for (const [path, signature] of signatures) {
      if (signature?.kind !== "link") continue;
      const chunks: Buffer[] = [];
      for await (const chunk of contents.read({ root: "base", path })) chunks.push(chunk);
      targets.set(path, Buffer.concat(chunks).toString("latin1"));
    }
    await contents.close();
  } catch (error) {
    await contents.abandon();
    throw error;
  }
  return targets;
}

export interface Recovered {
  readonly sandboxId: string;
  readonly codebaseDir: string;
  /** `applied`: rolled forward; `nothing`: the codebase is as before; `busy`: its process is at work. */
  readonly outcome: "applied" | "nothing" | "busy";
  /** Nothing of the delta is left: it can be discarded. */
  readonly whole: boolean;
}

/** Brings the commit of one delta to its end, if one was cut off. Throws `commit_failed` when something could not be put back. */
export async function recoverCommit(tool: RunTool, deltas: string, sandboxId: string): Promise<Recovered | undefined> {
  const record = readCommit(deltas, sandboxId);
  if (record === undefined) return undefined;
  const { codebaseDir, stage, whole } = record;
  const told = { sandboxId, codebaseDir, whole } as const;
  if (record.process !== null && record.process.pid !== process.pid && isAlive(record.process)) return { ...told, outcome: "busy" };
  // Written down as applied: only the staging directory may be left.
  if (record.state === "applied") {
    await clean(tool, record);
    writeCommit(deltas, sandboxId, undefined);
    return { ...told, outcome: "applied" };
  }
  const end = await recover(tool, codebaseDir, stage, { clean: false });
  if (end.outcome === "busy") return { ...told, outcome: "busy" };
  if (end.outcome === "stuck") throw stuckAgain(end, stage);
  const request = { tool, deltas, sandboxId, record, signatures: end.signatures };
  await (end.outcome === "applied" ? finishApplied(request) : finishNothing(request));
  return { ...told, outcome: end.outcome };
}

function stuckAgain({ stuckPaths }: ApplyOutcome, stage: string): CorralError {
  return new CorralError(
    "commit_failed",
    `a commit that was cut off cannot be finished nor wholly taken back: ${stuckPaths.length} paths were changed meanwhile; what stood there lies in ${stage}/ in the codebase: put it in place by hand, then remove that directory`,
  );
}

/** At a start: ends every commit that was cut off. One that cannot be ended is told and does not keep the others waiting. */
export async function recoverCommits(
  tool: RunTool,
  deltas: string,
): Promise<{
  readonly recovered: readonly Recovered[];
  readonly failed: readonly { readonly sandboxId: string; readonly error: unknown }[];
}> {
  const recovered: Recovered[] = [];
  const failed: { sandboxId: string; error: unknown }[] = [];
  for (const sandboxId of listCommits(deltas)) {
    try {
      const one = await recoverCommit(tool, deltas, sandboxId);
      if (one !== undefined) recovered.push(one);
    } catch (error) {
      failed.push({ sandboxId, error });
    }
  }
  return { recovered, failed };
}
