// Worlds played in this process, without a server: a folder becomes a world and its canon a version, sessions are begun and gone on with.
// Not for many owners: a service asks who may what. Invariant: a canon with an error begins no session; all that is said is in the store.

import { CorralError } from "../api/errors.ts";
import type { CanonProblem, LoomHere, PlayBranch, PlayTurn } from "../api/loom.ts";
import type { BranchRecord } from "../store/loom-tree.ts";
import type { TurnRecord } from "../store/loom-turns.ts";
import { compileCanon } from "./canon/compile.ts";
import { readFolder } from "./canon/folder.ts";
import { History, type Move } from "./session/history.ts";
import { verifySession } from "./session/verify.ts";
import { Engine } from "./turn/engine.ts";
import type { EngineParts } from "./turn/parts.ts";

export interface PlayParts extends Omit<EngineParts, "newId"> {
  readonly newId: (noun: "session" | "branch" | "turn" | "ledger" | "world" | "canon") => string;
  /** Whose worlds and sessions they are. */
  readonly ownerId: string;
}

/** What is wrong in a folder's canon. Throws `world_not_found`. */
export async function lintFolder(dir: string): Promise<readonly CanonProblem[]> {
  return compileCanon({ files: await readFolder(dir) }).problems;
}

export async function openPlay(parts: PlayParts): Promise<LoomHere> {
  const engine = new Engine(parts);
  const history = new History(parts);
  await engine.start();
  const move = (sessionId: string): Move => ({ sessionId, actor: parts.ownerId });
  return {
    begin: (dir) => begin(parts, dir),
    send: async (sessionId, input) => (await engine.send({ sessionId, actor: parts.ownerId, input })).turn.id,
    retry: (sessionId) => retry(parts, engine, sessionId),
    follow: (turnId, options) => engine.follow({ turnId, ...options }),
    ended: async (turnId) => await told(parts, await engine.ended(turnId)),
    cancel: (turnId) => engine.cancel(turnId),
    undo: async (sessionId) => branchOf(await history.undo(move(sessionId))),
    redo: async (sessionId) => branchOf(await history.redo(move(sessionId))),
    goTo: async (sessionId, turnId) => branchOf(await history.goTo(move(sessionId), turnId)),
    fork: async (sessionId, name) => branchOf(await history.fork(move(sessionId), { name })),
    verify: async (sessionId) => {
      const session = await parts.store.loom.sessions.get(sessionId);
      if (session === undefined) throw new CorralError("session_not_found", `there is no session ${sessionId}`);
      return await verifySession(parts.store.loom, session);
    },
    costNano: async (sessionId) => (await parts.store.loom.money.ledger(sessionId)).reduce((sum, { nanoUsd }) => sum + (nanoUsd ?? 0), 0),
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

async function begin({ store, clock, newId, ownerId }: PlayParts, dir: string) {
  const files = await readFolder(dir);
  const canon = compileCanon({ files });
  if (!canon.usable)
    throw new CorralError("canon_invalid", `${dir} holds ${errorsOf(canon.problems)}; corral world lint DIR tells all`, {
      details: { problems: canon.problems },
    });
  const [worldId, sessionId, createdAt] = [newId("world"), newId("session"), clock.wallMs()];
  const name = canon.name === "" ? "unnamed" : canon.name;
  const canonId = newId("canon");
  await store.transaction(async ({ loom }) => {
    await loom.worlds.add({ id: worldId, ownerId, name, kind: canon.kind, createdAt });
    const used = canon.files.map((path) => [path, files.get(path) ?? ""] as const);
    const hashes = await loom.blobs.put(
      worldId,
      used.map(([, text]) => text),
    );
    const listed = Object.fromEntries(used.map(([path], i) => [path, hashes[i] ?? ""]));
    await loom.worlds.addCanon({ id: canonId, worldId, hash: canon.hash, files: listed, lint: canon.problems, createdAt });
    const row = { id: sessionId, worldId, ownerId, name, type: "creative_writing", canonId, config: {}, seed: sessionId };
    await loom.sessions.add([{ ...row, branchId: newId("branch"), createdAt }]);
  });
  await store.settled();
  return { sessionId, worldId, canonId, name };
}

function errorsOf(problems: readonly CanonProblem[]): string {
  const errors = problems.filter(({ severity }) => severity === "error");
  const first = errors[0];
  const more = errors.length > 1 ? `, and ${errors.length - 1} more errors` : "";
  return first === undefined ? "an error" : `an error (${first.file}:${first.line}:${first.column} ${first.code}: ${first.message})${more}`;
}

/** The same input once more, beside the last turn. */
async function retry({ store, ownerId }: PlayParts, engine: Engine, sessionId: string): Promise<string> {
  const session = await store.loom.sessions.get(sessionId);
  const branch = session === undefined ? undefined : await store.loom.tree.branch(session.branchId);
  const head = branch === undefined || branch.headId === null ? undefined : await store.loom.turns.get(branch.headId);
  if (head === undefined) throw new CorralError("turn_not_found", "nothing was said yet that could be answered anew");
  const input = await store.loom.blobs.get(sessionId, head.inputHash);
  const kind = input === "" ? "continue" : "say";
  return (await engine.send({ sessionId, actor: ownerId, input, kind, options: { behind: head.parentId } })).turn.id;
}

async function told({ store }: PlayParts, turn: TurnRecord): Promise<PlayTurn> {
  const { id, sessionId, state, stopReason, outputHash, error, queuedAt, endedAt } = turn;
  const steps = await store.loom.turns.steps(id);
  const providerMs = steps.reduce((sum, step) => sum + (step.endedAt ?? step.startedAt) - step.startedAt, 0);
  const text = outputHash === null ? "" : await store.loom.blobs.get(sessionId, outputHash);
  const timings = { engineMs: Math.max(0, (endedAt ?? queuedAt) - queuedAt - providerMs), providerMs };
  return { session: sessionId, turn: id, text, state, stopReason: stopReason ?? "error", timings, ...(error === null ? {} : { error }) };
}

function branchOf({ name, headId }: BranchRecord): PlayBranch {
  return { name, head: headId };
}
