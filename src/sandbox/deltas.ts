// The deltas of one data directory as clients see them: finds the record, opens a tool, hands the work to view/.
// It reads no layer itself. Invariant: what a person is shown as changed and refused is what commit judges, from the same record.

import type { CommitOptions, Deltas, KeptDelta } from "../api/corral.ts";
import { CorralError, errorCode } from "../api/errors.ts";
import type { Change, CommitResult, Refusal } from "../api/sandbox.ts";
import { compilePolicy } from "../policy/compile.ts";
import { printable } from "../policy/bytes.ts";
import type { DeltaInput } from "../view/changes.ts";
import { readManifest } from "../view/codebase.ts";
import { deltaDir, type KeptRecord, listKept, readKept, readRebased } from "../view/kept.ts";
import { partsOf } from "../view/layers.ts";
import { shownMode } from "../view/plan.ts";
import type { StoredCodebases } from "../view/stored.ts";
import type { RunTool } from "../view/view.ts";
import type { DataDir } from "./data-dir.ts";
import { isPaused } from "./paused-record.ts";
import { isEmptyDir, removeDelta } from "./settle.ts";

export interface LocalDeltasOptions {
  readonly data: DataDir;
  readonly openTool: () => Promise<RunTool>;
  readonly stored?: StoredCodebases;
  /** Whether a sandbox of this process lives. */
  readonly isLive: (sandboxId: string) => boolean;
}

export class LocalDeltas implements Deltas {
  readonly #options: LocalDeltasOptions;

  constructor(options: LocalDeltasOptions) {
    this.#options = options;
  }

  list(): Promise<readonly KeptDelta[]> {
    return Promise.resolve(
      listKept(this.#options.data.deltas)
        .filter(({ kept }) => kept)
        .map(publicRecord),
    );
  }

  async changes(sandboxId: string): Promise<{ changes: readonly Change[]; refused: readonly Refusal[] }> {
    const record = this.#readable(sandboxId);
    // Most runs write nothing; those need none of what reads a delta.
    if (record.layers === undefined && isEmptyDir(deltaDir(this.#options.data.deltas, sandboxId).upper))
      return { changes: [], refused: [] };
    const [{ readChanges, toChange }, { judge }, { readFlags }] = await Promise.all([
      import("../view/changes.ts"),
      import("../view/judge.ts"),
      import("../view/commit.ts"),
    ]);
    const input = await this.#input(record);
    const delta = await readChanges(input);
    const { refused, others } = judge(delta, input.policy);
    const flags = await readFlags(input, delta);
    return {
      changes: delta.changes.map((change) => toChange(change, flags.get(change))),
      refused: [...[...refused].map(([change, reason]) => ({ path: printable(change.path), reason })), ...others],
    };
  }

  async *text(sandboxId: string, paths?: readonly string[]): AsyncIterable<Uint8Array> {
    const record = this.#readable(sandboxId);
    const [{ readChanges }, { deltaText }] = await Promise.all([import("../view/changes.ts"), import("../view/text.ts")]);
    const input = await this.#input(record);
    yield* deltaText(input, await readChanges(input), paths);
  }

  async *export(sandboxId: string): AsyncIterable<Uint8Array> {
    const record = this.#readable(sandboxId);
    const [{ readChanges }, { exportDelta }] = await Promise.all([import("../view/changes.ts"), import("../view/export.ts")]);
    const input = await this.#input(record);
    yield* exportDelta(input, await readChanges(input));
  }

  async commit(sandboxId: string, options: CommitOptions = {}): Promise<CommitResult> {
    const record = this.#readable(sandboxId);
    const { data } = this.#options;
    // SAFETY: all sandboxes without a codebase share this directory; what one committed, others would see.
    if (record.codebaseDir === data.empty)
      throw new CorralError("commit_refused", `the sandbox ${sandboxId} has no codebase to commit to; export its changes instead`);
    const [{ commitDelta }, { liveTarget }] = await Promise.all([import("../view/commit.ts"), import("../view/commit-live.ts")]);
    const input = { ...(await this.#input(record)), deltas: data.deltas, sandboxId };
    const target = record.stored === undefined ? liveTarget(input) : this.#stored().target(record.stored, input);
    const { whole, ...result } = await commitDelta(input, target, options);
    if (whole && record.kept) await this.discard(sandboxId);
    return result;
  }

  async discard(sandboxId: string): Promise<void> {
    if (this.#discardable(sandboxId)?.kept === false) {
      throw new CorralError("sandbox_state", `the sandbox ${sandboxId} runs or is paused; its delta goes when it is destroyed`);
    }
    const tool = await this.#options.openTool();
    // A commit that was cut off is ended first: only the delta's record names what it left in the codebase.
    const { recoverCommit } = await import("../view/recover.ts");
    const ended = await recoverCommit(tool, this.#options.data.deltas, sandboxId);
    if (ended?.outcome === "busy")
      throw new CorralError("sandbox_state", `the delta of ${sandboxId} is being committed by another process; wait for it to end`);
    await removeDelta(tool, this.#options.data, sandboxId);
  }

  /** Discarding is what mends a record that cannot be read. */
  #discardable(sandboxId: string): KeptRecord | undefined {
    try {
      return this.#readable(sandboxId);
    } catch (error) {
      if (errorCode(error) === "delta_malformed" && !this.#options.isLive(sandboxId)) return undefined;
      throw error;
    }
  }

  /** A delta that is kept, or that of a sandbox of this process. Another process's is not ours to read while it runs. */
  #readable(sandboxId: string): KeptRecord {
    const { data, isLive } = this.#options;
    const record = readKept(data.deltas, sandboxId);
    if (!record.kept && !isLive(sandboxId) && !isPaused(data.deltas, sandboxId))
      throw new CorralError("sandbox_state", `the sandbox ${sandboxId} belongs to another process that still runs; wait for it to end`);
    if (record.stale === true) throw new CorralError("sandbox_state", `the sandbox ${sandboxId} is being restored; try again when it runs`);
    return record;
  }

  #stored(): StoredCodebases {
    if (this.#options.stored === undefined)
      throw new CorralError("codebase_not_found", "the delta was made over a stored codebase, which this process does not have");
    return this.#options.stored;
  }

  async #input(record: KeptRecord): Promise<DeltaInput> {
    const dir = deltaDir(this.#options.data.deltas, record.sandboxId);
    const tree = record.stored === undefined ? undefined : this.#stored().tree(record.stored);
    const { deltas } = this.#options.data;
    const parts = partsOf(deltas, record.sandboxId, record.layers);
    return {
      tool: await this.#options.openTool(),
      ...(parts === undefined ? { upper: dir.upper } : { upper: deltas, parts }),
      base: tree?.blobs ?? record.codebaseDir,
      manifest: () => tree?.events() ?? readManifest(dir.manifest),
      policy: compilePolicy(record.policy),
      trusted: record.trusted,
      rebased: readRebased(this.#options.data.deltas, record.sandboxId),
      shownMode,
    };
  }
}

function publicRecord({ sandboxId, codebaseDir, stored, createdAt, cutOff }: KeptRecord): KeptDelta {
  return { sandboxId, codebaseDir, ...(stored === undefined ? {} : { stored }), createdAt, cutOff };
}
