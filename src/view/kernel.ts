// The kernel engine: a policy compiled to a mask layer over a codebase, and the overlay mount that the kernel does the rest with.
// It mounts nothing itself and contains no process; a runtime does both with the MountSpec it returns.
// Invariant: the mask holds every visible entry and nothing else, and the codebase is a data-only layer: the kernel finds a file of
// it through a mark in the mask, never by its name. What is hidden is in no directory that a sandbox can read.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import type { Policy } from "../api/policy.ts";
import type { ProcessIdentity } from "../base/process-identity.ts";
import { Batches } from "./batches.ts";
import { CodebaseWalk, forgetManifests, keepManifest, locateCodebase, sourceOf } from "./codebase.ts";
import { buildImage, makeMask, type MaskJob, type MaskMaker } from "./compile-mask.ts";
import { type HeldMask, type MaskForm, Masks } from "./masks.ts";
import type { StoredTree } from "./stored.ts";
import type { IdMap, OverlayMount, RunTool } from "./view.ts";

export interface KernelViewOptions {
  readonly tool: RunTool;
  readonly ids: IdMap;
  /** Masks and manifests; private to this user. Made when absent. */
  readonly cacheDir: string;
  /** The process that ends when the sandboxes over its masks do; absent: this one. */
  readonly holder?: () => ProcessIdentity;
  /** For tests: makes trees where images could be had. */
  readonly form?: MaskForm;
}

export interface PrepareRequest {
  /** A directory, looked at now; or a tree that was stored. */
  readonly base: string | StoredTree;
  /** Of a directory: nobody changes it, so what was seen of it once still holds. */
  readonly fixed?: boolean;
  readonly policy: Policy;
  /** Directories in the root that the policy's preset wants (`/output`). */
  readonly presetDirs?: readonly string[];
}

export interface PreparedView {
  /** The overlay at `target`, writable with `upper` and `work`, else read-only. `frozen`: layers between, topmost first. */
  mount(delta?: { readonly upper: string; readonly work: string; readonly frozen?: readonly string[] }): OverlayMount;
  /** The root directory of a delta must have this owner and mode: the view's root is the delta's. */
  readonly root: { readonly uid: number; readonly gid: number; readonly mode: number };
  /** Names the version of the codebase. */
  readonly signature: string;
  /**
   * The walk of that version (`readManifest`); absent for a stored tree, which tells it again. A delta that outlives the process needs a
   * copy or a hard link of its own: the cache forgets.
   */
  readonly manifestFile?: string;
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
  /** The file that holds the mask, shared by all who asked at the same time: for a sandbox that outlives this process. */
  readonly use: string;
  /** Lets the mask be evicted. Call it when no mount uses it. Idempotent. */
  release(): void;
}

/** The layers of a stored tree that is shown whole, to be the root of sandboxes under whatever lies above it. */
export interface PreparedRoot {
  readonly lowers: readonly string[];
  readonly dataOnly: readonly string[];
  readonly options: readonly string[];
  /** As of `PreparedView`. */
  readonly use: string;
  release(): void;
}

export interface KernelView {
  prepare(request: PrepareRequest): Promise<PreparedView>;
  /** For one sandbox; the mask is made once for a tree. */
  prepareRoot(tree: StoredTree): Promise<PreparedRoot>;
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
  const { tool, ids } = options;
  const form = options.form ?? (ids.trusted ? "image" : "tree");
  const maker: MaskMaker = { tool, ids, masks: new Masks(join(options.cacheDir, "masks"), tool, options.holder), form };
  const engine: Engine = { maker, manifests, looks: new Batches(), seen: new Map() };
  return { prepare: (request) => prepare(engine, request), prepareRoot: (tree) => prepareRoot(engine, tree), sweep: () => sweep(engine) };
}

interface Engine {
  readonly maker: MaskMaker;
  readonly manifests: string;
  readonly looks: Batches<Found>;
  /** Of directories that nobody changes, by path. */
  readonly seen: Map<string, Seen>;
}

interface Seen {
  readonly signature: string;
  readonly manifestFile: string;
}

/** What one look at a codebase gave; shared by all who asked for it before it began. */
interface Found {
  /** The layer that the mask leads to. */
  readonly data: string;
  readonly held: HeldMask;
  readonly signature: string;
  readonly manifestFile?: string;
  readonly stats: PreparedView["stats"];
  /** How many of the sharers are done with it. */
  released: number;
}

async function prepare(engine: Engine, request: PrepareRequest): Promise<PreparedView> {
  const { policy, presetDirs = [] } = request;
  if (typeof request.base !== "string") {
    const tree = request.base;
    const job: MaskJob = { lineage: lineageOf(engine, [tree.blobs, tree.root], request), policy, presetDirs };
    const { value, sharers } = await engine.looks.run(job.lineage, () => lookStored(engine, tree, job));
    return present(engine, value, sharers);
  }
  const base = await locateCodebase(request.base);
  const job: MaskJob = { lineage: lineageOf(engine, [base, statSync(base).ino], request), policy, presetDirs };
  const { value, sharers } = await engine.looks.run(job.lineage, async () => {
    if (request.fixed !== true) return await look(engine, base, job);
    return lookAgain(engine, base, job) ?? (await look(engine, base, job, (seen) => engine.seen.set(base, seen)));
  });
  return present(engine, value, sharers);
}

async function prepareRoot(engine: Engine, tree: StoredTree): Promise<PreparedRoot> {
  const { ids } = engine.maker;
  const lineage = hashOf([MASK_VERSION, "root", tree.blobs, tree.root, personOf(ids)]);
  const { value, sharers } = await engine.looks.run(lineage, () => lookStored(engine, tree, { lineage, presetDirs: [] }));
  const { held, data } = value;
  const options = ids.trusted ? TRUSTED_OPTIONS : USER_OPTIONS;
  return { lowers: [held.layer], dataOnly: [data], options, use: held.use, release: releaser(value, sharers) };
}

async function sweep(engine: Engine): Promise<void> {
  await engine.maker.masks.sweep();
  forgetManifests(engine.manifests, MAX_MANIFESTS);
}

/** Everything that a mask depends on besides the version of the codebase. */
function lineageOf({ maker: { ids } }: Engine, base: readonly (string | number)[], request: PrepareRequest): string {
  return hashOf([MASK_VERSION, base, request.policy.rules, request.presetDirs ?? [], personOf(ids)]);
}

function personOf({ base, uid, gid, trusted }: IdMap): unknown {
  return [base, uid, gid, trusted];
}

function hashOf(facts: unknown): string {
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 24);
}

/** Without a walk, where it was seen and its mask is known. */
function lookAgain({ maker, seen }: Engine, base: string, job: MaskJob): Found | undefined {
  const started = performance.now();
  const known = seen.get(base);
  if (known === undefined || !existsSync(known.manifestFile)) return undefined;
  const held = maker.masks.hold(job.lineage, known.signature);
  if (held === undefined) return undefined;
  const { form, visible, hidden } = held.stamp;
  const stats = { visible, hidden, form, cached: true, walkMs: 0, maskMs: performance.now() - started };
  return { data: base, held, ...known, stats, released: 0 };
}

/**
 * Walks the codebase. Where a mask of this lineage is known, it is likely still right: then nothing is planned until the signature
 * says otherwise. At first sight the walk, the plan and the mask are made at the same time.
 */
async function look(engine: Engine, base: string, job: MaskJob, onSeen?: (seen: Seen) => void): Promise<Found> {
  const { maker } = engine;
  const started = performance.now();
  const walk = new CodebaseWalk(maker.tool, base);
  try {
    const isNew = maker.masks.newest(job.lineage) === undefined;
    const early = isNew && maker.form === "image" ? await buildImage(maker, job, walk.events()) : undefined;
    const version = await walk.finish();
    const walked = performance.now();
    const manifest = keepManifest(engine.manifests, version);
    manifest.catch(() => {}); // awaited below; a failure of the mask comes first
    const known = early === undefined ? maker.masks.hold(job.lineage, version.signature) : undefined;
    const held = known ?? (await makeMask(maker, job, sourceOf(version), early));
    if (known === undefined) await sweep(engine); // what was added is what may be too much
    const { form, visible, hidden } = held.stamp;
    const manifestFile = await manifest;
    onSeen?.({ signature: version.signature, manifestFile });
    const stats = { visible, hidden, form, cached: known !== undefined, walkMs: walked - started, maskMs: performance.now() - walked };
    return { data: base, held, signature: version.signature, manifestFile, stats, released: 0 };
  } catch (error) {
    walk.kill();
    throw error;
  }
}

/** A tree that has its hash for a signature asks for no walk: where the mask is known, nothing is left to do. */
async function lookStored(engine: Engine, tree: StoredTree, job: MaskJob): Promise<Found> {
  const { root, blobs } = tree;
  const { maker } = engine;
  const started = performance.now();
  const known = maker.masks.hold(job.lineage, root);
  const held = known ?? (await makeMask(maker, job, { signature: root, events: () => tree.events(), check: () => undefined }, undefined));
  if (known === undefined) await sweep(engine);
  const { form, visible, hidden } = held.stamp;
  const stats = { visible, hidden, form, cached: known !== undefined, walkMs: 0, maskMs: performance.now() - started };
  return { data: blobs, held, signature: root, stats, released: 0 };
}

function present(engine: Engine, found: Found, sharers: number): PreparedView {
  const { ids } = engine.maker;
  const { data, held, signature, manifestFile, stats } = found;
  const options = ids.trusted ? TRUSTED_OPTIONS : USER_OPTIONS;
  const layers = { kind: "overlay", target: TARGET, lowers: [held.layer], dataOnly: [data], options, exec: true } as const;
  const { own, mode } = held.stamp.root;
  return {
    mount: (delta) => {
      if (delta === undefined) return layers;
      const { frozen = [], ...writable } = delta;
      return { ...layers, ...writable, lowers: [...frozen, held.layer] };
    },
    root: { uid: own ? ids.base + ids.uid : 0, gid: own ? ids.base + ids.gid : 0, mode },
    signature,
    ...(manifestFile === undefined ? {} : { manifestFile }),
    stats,
    remarks: held.stamp.remarks,
    use: held.use,
    release: releaser(found, sharers),
  };
}

/** Of one sharer: the last lets the mask go. */
function releaser(found: Found, sharers: number): () => void {
  let mine = true;
  return () => {
    if (mine && ++found.released === sharers) found.held.release();
    mine = false;
  };
}

function readProtectedHardlinks(): string {
  return readFileSync("/proc/sys/fs/protected_hardlinks", "latin1").trim();
}
