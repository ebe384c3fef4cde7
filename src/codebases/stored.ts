// Stored codebases as the base of sandboxes and the target of their commits: the join between the trees on disk and a view.
// Which versions there are is asked of `Heads`; the database behind it is not known here.
// Invariant: a commit is a new version or nothing. Where the current version is not the one that the sandbox stands on, each path that the
// delta changes must be as the sandbox had it, or it is a conflict; everything else of the current version stays.

import { createHash } from "node:crypto";
import { CorralError } from "../api/errors.ts";
import type { StoredBase } from "../api/sandbox.ts";
import { printable } from "../policy/bytes.ts";
import type { DeltaChange, DeltaChanges } from "../view/changes.ts";
import type { CommitInput, CommitPlan, CommitTarget, InTheWay } from "../view/commit.ts";
import { type Rebased, readRebased, writeRebased } from "../view/kept.ts";
import type { PlannedOperation } from "../view/operations.ts";
import { ancestors } from "../view/select.ts";
import { Contents, isSame, probe } from "../view/stage.ts";
import type { StoredCodebases } from "../view/stored.ts";
import { TreeDraft } from "./draft.ts";
import { demandEntries } from "./filler.ts";
import { blobPlace, type DirNode, sameContent, type TreeNode } from "./nodes.ts";
import type { ObjectStore, PutResult } from "./objects.ts";
import { findNode, followLinks, readSmall, walkEvents } from "./read.ts";
import { type CodebaseStore, rootNode, type TreeSums } from "./store.ts";

export interface Head extends TreeSums {
  readonly number: number;
}

/** The versions of codebases, wherever they are written down. */
export interface Heads {
  /** `undefined`: there is no such codebase. */
  current(codebaseId: string): Promise<Head | undefined>;
  /** False: another version came first. */
  add(codebaseId: string, version: { readonly expected: number; readonly tree: DirNode; readonly source: string }): Promise<boolean>;
}

export function storedCodebases(store: CodebaseStore, heads: Heads): StoredCodebases {
  return {
    tree: ({ ownerId, root }) => {
      const { objects } = store.of(ownerId);
      const sums = { root, bytes: 0, files: 0, entries: 0 }; // a walk asks for none of them
      return {
        root,
        blobs: objects.blobs,
        events: () => walkEvents(objects, rootNode(sums)),
        hasFile: async (path) => (await followLinks(objects, rootNode(sums), path))?.kind === "file",
        read: (path, most) => readSmall(objects, rootNode(sums), { path, most }),
      };
    },
    target: (base, input) => {
      const commit: Commit = { store, heads, base, input, head: undefined };
      return {
        settle: () => Promise.resolve(),
        check: (plan) => check(commit, plan),
        apply: (plan) => apply(commit, plan),
      } satisfies CommitTarget;
    },
  };
}

interface Commit {
  readonly store: CodebaseStore;
  readonly heads: Heads;
  readonly base: StoredBase;
  readonly input: CommitInput;
  /** The version that was looked at last. */
  head: Head | undefined;
}

/** latin1 names of a path that begins with `/`. */
function namesOf(path: string): readonly string[] {
  return path.slice(1).split("/");
}

async function check(commit: Commit, { delta, operations }: CommitPlan): Promise<readonly PlannedOperation[] | InTheWay> {
  const { store, heads, base, input } = commit;
  commit.head = await heads.current(base.codebaseId);
  if (commit.head === undefined)
    throw new CorralError("codebase_not_found", `the codebase ${base.codebaseId} is gone; export the changes instead`);
  const { objects } = store.of(base.ownerId);
  const rebased = readRebased(input.deltas, input.sandboxId);
  if (commit.head.root === base.root && rebased.size === 0) return operations;
  const trees = { objects, was: rootNode({ ...commit.head, root: base.root }), now: rootNode(commit.head) };
  const cleared = new Set(operations.filter(({ kind }) => kind === "D" || kind === "R").map(({ path }) => path));
  const left: PlannedOperation[] = [];
  const inTheWay = new Map<DeltaChange | undefined, string>();
  for (const operation of operations) {
    const { path, before, change } = operation;
    const now = await findNode(objects, trees.now, namesOf(path));
    // What the same plan clears away is expected at the clearing.
    const atClearing = before === undefined && cleared.has(path);
    const why = atClearing ? undefined : inTheWayAt(operation, now, await expectedAt({ ...trees, rebased }, path));
    const lost = await lostAbove(
      trees,
      [...ancestors(path)].filter((dir) => !cleared.has(dir)),
    );
    const reason = why ?? lost;
    if (reason === undefined) left.push(operation);
    else if (lost !== undefined || !(await isDone(input, delta, operation, now))) inTheWay.set(change, reason);
  }
  return inTheWay.size > 0 ? inTheWay : left;
}

/** Whether somebody else came to the same result. */
async function isDone(input: CommitInput, delta: DeltaChanges, operation: PlannedOperation, now: TreeNode | undefined): Promise<boolean> {
  const { kind, target, source, change } = operation;
  if (kind === "D" || kind === "R") return now === undefined;
  if (kind === "L") return now?.kind === "link" && now.target === target;
  if (kind !== "F" || source === undefined || now?.kind !== "file" || now.size !== change?.after?.size) return false;
  const contents = new Contents(input, delta.placeOf);
  const sum = createHash("sha256");
  try {
    for await (const piece of contents.read(source)) sum.update(piece);
    await contents.close();
  } catch (error) {
    await contents.abandon();
    throw error;
  }
  return sum.digest("hex") === now.hash;
}

interface Trees {
  readonly objects: ObjectStore;
  readonly was: DirNode;
}

/** What the sandbox had at the path, or what an earlier commit of its delta made of it. */
async function expectedAt(
  { objects, was, rebased }: Trees & { readonly rebased: ReadonlyMap<string, Rebased> },
  path: string,
): Promise<TreeNode | undefined> {
  const known = rebased.get(path);
  return known === undefined ? await findNode(objects, was, namesOf(path)) : nodeOf(known);
}

function nodeOf({ signature, target, place = "" }: Rebased): TreeNode | undefined {
  if (signature === undefined) return undefined;
  const { mode, size } = signature;
  const times = { seconds: 0, ns: 0 };
  if (signature.kind === "file") return { kind: "file", ...times, mode, size, hash: place.replaceAll("/", "") };
  if (signature.kind === "link") return { kind: "link", ...times, target };
  return { kind: "dir", ...times, mode, hash: "", bytes: 0, files: 0, entries: 0 };
}

function inTheWayAt({ kind }: PlannedOperation, now: TreeNode | undefined, expected: TreeNode | undefined): string | undefined {
  if (sameContent(now, expected) || (kind === "M" && now?.kind === "dir")) return undefined;
  if (expected === undefined) return "it was made in the codebase meanwhile";
  return now === undefined ? "it was removed from the codebase meanwhile" : "it was changed in the codebase meanwhile";
}

async function lostAbove({ objects, was, now }: Trees & { readonly now: DirNode }, dirs: readonly string[]): Promise<string | undefined> {
  for (const dir of dirs) {
    const [old, fresh] = [await findNode(objects, was, namesOf(dir)), await findNode(objects, now, namesOf(dir))];
    if (fresh === undefined ? old !== undefined : fresh.kind !== "dir")
      return "a directory above it was removed or replaced in the codebase meanwhile";
  }
  return undefined;
}

async function apply(commit: Commit, plan: CommitPlan): Promise<"applied" | "moved" | InTheWay> {
  const { store, heads, base, input, head } = commit;
  if (head === undefined) throw new CorralError("internal", "a commit was applied that was not checked");
  return await store.writing(base.ownerId, async ({ objects }) => {
    const draft = await TreeDraft.over(objects, rootNode(head));
    const contents = new Contents(input, plan.delta.placeOf);
    const made = new Map<string, TreeNode | undefined>();
    try {
      for (const operation of plan.operations) {
        const why = await one({ objects, draft, contents, made, plan }, operation);
        if (why !== undefined) return await abandoned(contents, new Map([[operation.change, why]]));
      }
      await contents.close();
      await demandUnchanged(input, plan);
    } catch (error) {
      await contents.abandon();
      throw error;
    }
    demandEntries(draft);
    const tree = await draft.write();
    await objects.flush();
    if (!(await heads.add(base.codebaseId, { expected: head.number, tree, source: `commit ${input.sandboxId}` }))) return "moved";
    // A kill before this line costs nothing: where the codebase holds what the delta holds there is no conflict.
    remember(input, made);
    return "applied";
  });
}

/** SAFETY: a sandbox that still writes must not get half a file in. */
async function demandUnchanged({ tool, upper }: CommitInput, { operations }: CommitPlan): Promise<void> {
  const read = operations.filter(({ source }) => source?.root === "upper");
  const now = await probe(
    tool,
    upper,
    read.map(({ source }) => source?.path ?? ""),
  );
  const changed = read.find(({ signature }, index) => !isSame(signature, now[index]));
  if (changed !== undefined)
    throw new CorralError(
      "sandbox_state",
      `${printable(changed.path)} changed while it was committed: something still writes to the sandbox; stop it and commit again`,
    );
}

async function abandoned(contents: Contents, inTheWay: InTheWay): Promise<InTheWay> {
  await contents.abandon();
  return inTheWay;
}

interface Applying {
  readonly objects: ObjectStore;
  readonly draft: TreeDraft;
  readonly contents: Contents;
  readonly made: Map<string, TreeNode | undefined>;
  readonly plan: CommitPlan;
}

/** Why it could not be done. */
async function one(all: Applying, operation: PlannedOperation): Promise<string | undefined> {
  const { draft, made } = all;
  const { kind, path, mode, target = "" } = operation;
  const names = namesOf(path);
  const { mtimeSeconds: seconds = 0, mtimeNs: ns = 0 } = timesOf(operation);
  if (kind === "R" && !(await draft.isEmpty(names))) return "the codebase has something new in this directory";
  if (kind === "D" || kind === "R") await draft.remove(names);
  else if (kind === "M") await draft.putDir(names, { mode, seconds, ns });
  else if (kind === "L") await draft.put(names, { kind: "link", seconds, ns, target });
  else if (kind === "F") await draft.put(names, { kind: "file", seconds, ns, mode, ...(await contentOf(all, operation)) });
  else {
    const old = await draft.get(names);
    if (old?.kind === "file") await draft.put(names, { ...old, mode });
    else if (old?.kind === "dir") await draft.putDir(names, { ...old, mode });
  }
  made.set(path, await draft.get(names));
  return undefined;
}

function timesOf({ change }: PlannedOperation): { readonly mtimeSeconds?: number; readonly mtimeNs?: number } {
  return change?.after ?? {};
}

async function contentOf({ objects, contents, plan }: Applying, { source, change }: PlannedOperation): Promise<PutResult> {
  if (source === undefined) throw new CorralError("internal", "a file without content was to be committed");
  if (source.root === "base") {
    const hash = plan.delta.placeOf(source.path).replaceAll("/", "");
    return { hash, size: change?.after?.size ?? 0 };
  }
  return await objects.putBlob({ content: contents.read(source) });
}

function remember({ deltas, sandboxId }: CommitInput, made: ReadonlyMap<string, TreeNode | undefined>): void {
  const rebased = new Map<string, Rebased>(readRebased(deltas, sandboxId));
  for (const [path, node] of made) rebased.set(path, rebasedOf(node));
  writeRebased(deltas, sandboxId, rebased);
}

function rebasedOf(node: TreeNode | undefined): Rebased {
  if (node === undefined) return { signature: undefined, target: "" };
  const mtimeNs = BigInt(node.seconds) * 1_000_000_000n + BigInt(node.ns);
  const times = { ino: 0, mtimeNs, ctimeNs: 0n };
  if (node.kind === "link") return { signature: { kind: "link", mode: 0o777, size: node.target.length, ...times }, target: node.target };
  if (node.kind === "dir") return { signature: { kind: "dir", mode: node.mode, size: 0, ...times }, target: "" };
  return { signature: { kind: "file", mode: node.mode, size: node.size, ...times }, target: "", place: blobPlace(node.hash) };
}
