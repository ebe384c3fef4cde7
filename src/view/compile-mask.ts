// Makes the mask of one version of a codebase: walk, plan and the guest's `mask` tool, joined. It keeps nothing and holds nothing but
// the mask it made; kernel.ts decides when one is needed.
// Invariant: a mask is put in place only after the tool ended well, so a plan that broke off is never a mask.

import { readFileSync } from "node:fs";
import { CorralError } from "../api/errors.ts";
import type { Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import type { MaskSource } from "./codebase.ts";
import type { Draft, HeldMask, MaskForm, Masks } from "./masks.ts";
import { PlanBytes } from "./plan-bytes.ts";
import { type KeptDir, PlanTree } from "./plan-kept.ts";
import { Planner, type PlanNotes, type PlanSink } from "./plan.ts";
import { RootPlanner } from "./plan-root.ts";
import type { IdMap, RunTool } from "./view.ts";
import type { WalkEvent } from "./walk.ts";

/** What the tool says when the kernel takes no image. */
const NO_IMAGE = "mask: image:";

/** Where and for whom masks are made. */
export interface MaskMaker {
  readonly tool: RunTool;
  readonly ids: IdMap;
  readonly masks: Masks;
  /** Becomes `tree` when this kernel turns out to mount no images. */
  form: MaskForm;
}

/** One mask that is wanted. */
export interface MaskJob {
  readonly lineage: string;
  /** Absent: everything is shown as it is, for a root file system. */
  readonly policy?: Policy;
  readonly presetDirs: readonly string[];
}

export interface Built {
  readonly draft: Draft;
  readonly form: MaskForm;
  readonly notes: PlanNotes;
  readonly kept?: KeptDir | undefined;
}

/** Makes the mask of a version, by whatever means this kernel allows, and holds it. `early`: one that was made while the walk went by. */
export async function makeMask(maker: MaskMaker, job: MaskJob, source: MaskSource, early: Built | undefined): Promise<HeldMask> {
  source.check();
  let built = early;
  if (built === undefined && maker.form === "image") built = await buildImage(maker, job, source.events());
  built ??= await buildTree(maker, job, source);
  const stamp = { form: built.form, signature: source.signature, bootId: bootId(), ...built.notes };
  const held = await maker.masks.finish(built.draft, job.lineage, stamp, built.kept);
  if (held === undefined) throw new CorralError("create_failed", "the mask of this codebase vanished while it was put in place; try again");
  return held;
}

function planner(maker: MaskMaker, job: MaskJob, sink: PlanSink): Pick<Planner, "take" | "notes"> {
  if (job.policy === undefined) return new RootPlanner(sink);
  return new Planner(compilePolicy(job.policy), sink, { presetDirs: job.presetDirs, refuseMounts: !maker.ids.trusted });
}

/** Plan and image at the same time as the walk that gives the events. `undefined`: no image can be had, now or from now on. */
export async function buildImage(maker: MaskMaker, job: MaskJob, events: AsyncIterable<WalkEvent[]>): Promise<Built | undefined> {
  const bytes = new PlanBytes();
  const plan = planner(maker, job, bytes);
  const draft = maker.masks.begin("image");
  const failure: { error?: Error } = {};
  async function* pieces(): AsyncGenerator<Buffer> {
    try {
      for await (const batch of events) {
        plan.take(batch);
        yield* bytes.take(false);
      }
      bytes.end();
      yield* bytes.take(true);
    } catch (error) {
      failure.error = error instanceof Error ? error : new Error(String(error)); // the tool only sees a plan that is cut
    }
  }
  try {
    await runMask(maker, "image", draft, pieces());
    return { draft, form: "image", notes: plan.notes() };
  } catch (error) {
    await maker.masks.discard(draft);
    if (failure.error !== undefined) throw failure.error;
    if (plan.notes().visible === 0) return undefined; // not even the root could be read: the source's check says why
    if (!(error instanceof Error) || !error.message.includes(NO_IMAGE)) throw error;
    maker.form = "tree";
    return undefined;
  }
}

/** Brings the lineage's old tree up to date where that is less work, else makes a new one. */
async function buildTree(maker: MaskMaker, job: MaskJob, source: MaskSource): Promise<Built> {
  const tree = new PlanTree();
  const plan = planner(maker, job, tree);
  for await (const batch of source.events()) plan.take(batch);
  const old = maker.masks.takeOld(job.lineage);
  const kept = old?.kept as KeptDir | undefined;
  if (old !== undefined && kept !== undefined && tree.isMendable(kept)) {
    try {
      await runMask(maker, "tree", old, tree.write(kept));
      return { draft: old, form: "tree", notes: plan.notes(), kept: tree.kept() };
    } catch {
      // A kept mask that is not what was remembered is no loss: a new one is made.
    }
  }
  if (old !== undefined) await maker.masks.discard(old);
  const draft = maker.masks.begin("tree");
  try {
    await runMask(maker, "tree", draft, tree.write(undefined));
  } catch (error) {
    await maker.masks.discard(draft);
    throw error;
  }
  return { draft, form: "tree", notes: plan.notes(), kept: tree.kept() };
}

async function runMask(maker: MaskMaker, form: MaskForm, draft: Draft, plan: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void> {
  const { ids } = maker;
  const own = [String(ids.base + ids.uid), String(ids.base + ids.gid)];
  const run = maker.tool(["mask", form, "--own", ...own, "--xattrs", ids.trusted ? "trusted" : "user", draft.layer], iterate(plan));
  try {
    for await (const _ of run.stdout); // it puts nothing out; read to its end so that it can end
    await run.done;
  } catch (error) {
    throw told(error);
  }
}

/** The tool's message names files of the cache, which the caller did not: it stays the cause. */
function told(error: unknown): unknown {
  const message = error instanceof Error ? error.message : "";
  if (/No space left|Disk quota/.test(message)) {
    return new CorralError("disk_full", "the disk that holds the data directory is full: there is no room for a mask of the codebase", {
      cause: error,
    });
  }
  if (message.includes(NO_IMAGE) || !message.startsWith("mask: ")) return error;
  return new CorralError("create_failed", `the view of the codebase could not be made (${message.slice(message.lastIndexOf(": ") + 2)})`, {
    cause: error,
  });
}

async function* iterate(plan: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* plan;
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}
