// The kernel engine: a policy compiled to a mask layer over a codebase, and the overlay mount that the kernel does the rest with.
// It mounts nothing itself and contains no process; a runtime does both with the MountSpec it returns.
// Invariant: the mask holds every visible entry and nothing else, and the codebase is a data-only layer: the kernel finds a file of
// it through a mark in the mask, never by its name. What is hidden is in no directory that a sandbox can read.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import type { Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { checkRoot, CodebaseWalk, forgetManifests, keepManifest, locateCodebase, replay, type CodebaseVersion } from "./codebase.ts";
import { Masks, type Draft, type HeldMask, type MaskForm } from "./masks.ts";
import { Planner, type PlanNotes, type PlanSink } from "./plan.ts";
import { PlanBytes } from "./plan-bytes.ts";
import { PlanTree, type KeptDir } from "./plan-kept.ts";
import type { IdMap, MountSpec, RunTool } from "./view.ts";
import type { WalkEvent } from "./walk.ts";

export interface KernelViewOptions {
  readonly tool: RunTool;
  readonly ids: IdMap;
  /** Masks and manifests; private to this user. Made when absent. */
  readonly cacheDir: string;
  /** For tests: makes trees where images could be had. */
  readonly form?: MaskForm;
}

export interface PrepareRequest {
  readonly dir: string;
  readonly policy: Policy;
  /** Directories in the root that the policy's preset wants (`/output`). */
  readonly presetDirs?: readonly string[];
}

export interface PreparedView {
  /** The codebase's real path. */
  readonly base: string;
  /** The overlay at `target`, writable with `upper` and `work`, else read-only. */
  mount(delta?: { readonly upper: string; readonly work: string }): MountSpec & { readonly kind: "overlay" };
  /** The root directory of a delta must have this owner and mode: the view's root is the delta's. */
  readonly root: { readonly uid: number; readonly gid: number; readonly mode: number };
  /** Names the version of the codebase. */
  readonly signature: string;
  /** The walk of that version (`readManifest`). A delta that outlives the process needs a copy or a hard link of its own: the cache forgets. */
  readonly manifestFile: string;
  readonly stats: {
    readonly visible: number;
    readonly hidden: number;
    readonly form: MaskForm;
    readonly cached: boolean;
    readonly walkMs: number;
    readonly maskMs: number;
  };
  /** What a person should know of this view, for the sandbox's info. */
  readonly remarks: readonly string[];
  /** Lets the mask be evicted. Call it when no mount uses it. Idempotent. */
  release(): void;
}

export interface KernelView {
  prepare(request: PrepareRequest): Promise<PreparedView>;
  /** Removes masks that nobody uses beyond the bound, and what dead processes left. */
  sweep(): Promise<void>;
}

/** A change of what a mask looks like gets a new number: old masks are not used for it. */
const MASK_VERSION = 1;
const TARGET = "/workspace";
const MAX_MANIFESTS = 64;

/**
 * SAFETY: metacopy and redirect marks are what leads from the mask to the codebase; under trusted.* nobody in a sandbox can set
 * them. index and nfs_export would write into the work directory what a sandbox could time; xino makes inode numbers of one file
 * system of mask, codebase and delta, so that a copied-up file keeps its number.
 */
const TRUSTED_OPTIONS = ["metacopy=on", "redirect_dir=on", "index=off", "nfs_export=off", "xino=on"];
/** In a user namespace: user.* marks, which the kernel follows from a mask to a data-only layer and nowhere else. */
const USER_OPTIONS = ["userxattr", "index=off", "nfs_export=off", "xino=on"];

export function openKernelView(options: KernelViewOptions): KernelView {
  // SAFETY: with one id the sandbox would own the mask, and what one owns one can chmod.
  if (options.ids.count < 2)
    throw new CorralError(
      "engine_unavailable",
      "the kernel engine needs two mapped ids or more, this user has one; add a range to /etc/subuid and /etc/subgid and install uidmap",
    );
  if (readProtectedHardlinks() === "0") {
    // SAFETY: without it a sandbox could link to a file it may only read, and so keep or move what it does not own.
    throw new CorralError("engine_unavailable", "the kernel engine needs fs.protected_hardlinks; run: sysctl fs.protected_hardlinks=1");
  }
  const manifests = join(options.cacheDir, "manifests");
  mkdirSync(manifests, { recursive: true, mode: 0o700 });
  const engine: Engine = {
    ...options,
    manifests,
    masks: new Masks(join(options.cacheDir, "masks"), options.tool),
    form: options.form ?? (options.ids.trusted ? "image" : "tree"),
    pending: new Map(),
  };
  return { prepare: (request) => prepare(engine, request), sweep: () => sweep(engine) };
}

interface Engine {
  readonly tool: RunTool;
  readonly ids: IdMap;
  readonly masks: Masks;
  readonly manifests: string;
  /** Becomes `tree` when this kernel turns out to mount no images. */
  form: MaskForm;
  /** Compiles under way by lineage: a second sandbox of the same waits for the first one's mask. */
  readonly pending: Map<string, Promise<unknown>>;
}

async function prepare(engine: Engine, request: PrepareRequest): Promise<PreparedView> {
  const base = await locateCodebase(request.dir);
  const lineage = lineageOf(engine, base, request);
  while (engine.pending.has(lineage)) await engine.pending.get(lineage)?.catch(() => {});
  const work = look(engine, base, lineage, request);
  engine.pending.set(lineage, work);
  try {
    return await work;
  } finally {
    engine.pending.delete(lineage);
  }
}

async function sweep(engine: Engine): Promise<void> {
  await engine.masks.sweep();
  forgetManifests(engine.manifests, MAX_MANIFESTS);
}

/** Everything that a mask depends on besides the version of the codebase. */
function lineageOf(engine: Engine, base: string, request: PrepareRequest): string {
  const { ids } = engine;
  const facts = [
    MASK_VERSION,
    engine.form,
    base,
    statSync(base).ino,
    request.policy.rules,
    request.presetDirs ?? [],
    ids.base,
    ids.uid,
    ids.gid,
    ids.trusted,
  ];
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 24);
}

/**
 * Walks the codebase. Where a mask of this lineage is known, it is likely still right: then nothing is planned until the signature
 * says otherwise. At first sight the walk, the plan and the mask are made at the same time.
 */
async function look(engine: Engine, base: string, lineage: string, request: PrepareRequest): Promise<PreparedView> {
  const started = performance.now();
  const walk = new CodebaseWalk(engine.tool, base);
  try {
    const known = engine.masks.newest(lineage);
    const early = known === undefined && engine.form === "image" ? await buildImage(engine, walk.events(), request) : undefined;
    const version = await walk.finish();
    const walked = performance.now();
    const manifest = keepManifest(engine.manifests, version);
    manifest.catch(() => {}); // awaited below; a failure of the mask comes first
    let held = early === undefined ? engine.masks.hold(lineage, version.signature) : undefined;
    const cached = held !== undefined;
    held ??= await make(engine, lineage, version, request, early);
    const stats = { ...counts(held), form: held.stamp.form, cached, walkMs: walked - started, maskMs: performance.now() - walked };
    return present(engine, base, held, version.signature, await manifest, stats);
  } catch (error) {
    walk.kill();
    throw error;
  }
}

function counts(held: HeldMask): { visible: number; hidden: number } {
  return { visible: held.stamp.visible, hidden: held.stamp.hidden };
}

/** Makes the mask of a version, by whatever means this kernel allows, and holds it. */
async function make(
  engine: Engine,
  lineage: string,
  version: CodebaseVersion,
  request: PrepareRequest,
  early: Built | undefined,
): Promise<HeldMask> {
  let built = early;
  if (built === undefined && engine.form === "image") built = await buildImage(engine, replay(version), request);
  checkRoot(version);
  built ??= await buildTree(engine, lineage, version, request);
  const stamp = { form: built.form, signature: version.signature, bootId: bootId(), ...built.notes };
  const held = await engine.masks.finish(built.draft, lineage, stamp, built.kept);
  if (held === undefined) throw new CorralError("create_failed", "the mask of this codebase vanished while it was put in place; try again");
  await sweep(engine); // what was added is what may be too much
  return held;
}

interface Built {
  readonly draft: Draft;
  readonly form: MaskForm;
  readonly notes: PlanNotes;
  readonly kept?: KeptDir | undefined;
}

function planner(engine: Engine, sink: PlanSink, request: PrepareRequest): Planner {
  return new Planner(compilePolicy(request.policy), sink, { presetDirs: request.presetDirs ?? [], refuseMounts: !engine.ids.trusted });
}

/** Walk, plan and image at the same time. `undefined`: this kernel mounts no images; from now on trees are made. */
async function buildImage(engine: Engine, events: AsyncIterable<WalkEvent[]>, request: PrepareRequest): Promise<Built | undefined> {
  const bytes = new PlanBytes();
  const plan = planner(engine, bytes, request);
  const draft = engine.masks.begin("image");
  const failure: { error?: unknown } = {};
  async function* pieces(): AsyncGenerator<Buffer> {
    try {
      for await (const batch of events) {
        plan.take(batch);
        yield* bytes.take(false);
      }
      bytes.end();
      yield* bytes.take(true);
    } catch (error) {
      failure.error = error; // the tool only sees a plan that is cut
    }
  }
  try {
    await runMask(engine, "image", draft, pieces());
    return { draft, form: "image", notes: plan.notes() };
  } catch (error) {
    await engine.masks.discard(draft);
    if (failure.error !== undefined) throw failure.error;
    if (plan.notes().visible === 0) return undefined; // the root itself could not be read: told by checkRoot
    if (!(error instanceof Error) || !error.message.includes("mask: image:")) throw error;
    engine.form = "tree";
    return undefined;
  }
}

/** Brings the lineage's old tree up to date where that is less work, else makes a new one. */
async function buildTree(engine: Engine, lineage: string, version: CodebaseVersion, request: PrepareRequest): Promise<Built> {
  const tree = new PlanTree();
  const plan = planner(engine, tree, request);
  for await (const batch of replay(version)) plan.take(batch);
  const old = engine.masks.takeOld(lineage);
  const kept = old?.kept as KeptDir | undefined;
  if (old !== undefined && kept !== undefined && tree.isMendable(kept)) {
    try {
      await runMask(engine, "tree", old, tree.write(kept));
      return { draft: old, form: "tree", notes: plan.notes(), kept: tree.kept() };
    } catch {
      // A kept mask that is not what was remembered is no loss: a new one is made.
    }
  }
  if (old !== undefined) await engine.masks.discard(old);
  const draft = engine.masks.begin("tree");
  try {
    await runMask(engine, "tree", draft, tree.write(undefined));
  } catch (error) {
    await engine.masks.discard(draft);
    throw error;
  }
  return { draft, form: "tree", notes: plan.notes(), kept: tree.kept() };
}

async function runMask(engine: Engine, form: MaskForm, draft: Draft, plan: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void> {
  const { ids } = engine;
  const own = [String(ids.base + ids.uid), String(ids.base + ids.gid)];
  const run = engine.tool(["mask", form, "--own", ...own, "--xattrs", ids.trusted ? "trusted" : "user", draft.layer], iterate(plan));
  for await (const _ of run.stdout); // it puts nothing out; read to its end so that it can end
  await run.done;
}

async function* iterate(plan: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* plan;
}

function present(
  engine: Engine,
  base: string,
  held: HeldMask,
  signature: string,
  manifestFile: string,
  stats: PreparedView["stats"],
): PreparedView {
  const options = engine.ids.trusted ? TRUSTED_OPTIONS : USER_OPTIONS;
  const layers = { kind: "overlay", target: TARGET, lowers: [held.layer], dataOnly: [base], options, exec: true } as const;
  return {
    base,
    mount: (delta) => (delta === undefined ? layers : { ...layers, ...delta }),
    root: rootOf(engine, held),
    signature,
    manifestFile,
    stats,
    remarks: held.stamp.remarks,
    release: held.release,
  };
}

function rootOf(engine: Engine, held: HeldMask): PreparedView["root"] {
  const { own, mode } = held.stamp.root;
  return { uid: own ? engine.ids.base + engine.ids.uid : 0, gid: own ? engine.ids.base + engine.ids.gid : 0, mode };
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

function readProtectedHardlinks(): string {
  return readFileSync("/proc/sys/fs/protected_hardlinks", "latin1").trim();
}
