// Where the branches of a session stand: undo, redo, forks, and any turn as the next one's parent. Not turns: those are never changed here.
// Invariant: moving a head changes one row and tells one event; no branch is lost by it; undo and redo are each other's inverse until
// something new is said.

import { CorralError } from "../../api/errors.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { SessionRecord } from "../../store/loom-sessions.ts";
import type { BranchRecord } from "../../store/loom-tree.ts";
import type { EngineParts } from "../turn/parts.ts";

export interface Move {
  readonly sessionId: string;
  readonly actor: string;
}

type Why = "undo" | "redo" | "goto";

/** Moves of a branch that are looked back on for a redo. */
const LOOK_BACK = 1_000;

export class History {
  readonly #parts: EngineParts;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** To the turn before. Throws `session_not_found`, `session_busy`, `turn_not_found` at the beginning. */
  async undo(move: Move): Promise<BranchRecord> {
    return await this.#move(move, "undo", async ({ turns }, { headId }) => {
      const head = headId === null ? undefined : await turns.get(headId);
      if (head === undefined) throw new CorralError("turn_not_found", "the branch stands at its beginning; there is nothing to take back");
      return head.parentId;
    });
  }

  /** To where the last undo came from. Throws `session_not_found`, `session_busy`, `turn_not_found` when something was said since. */
  async redo(move: Move): Promise<BranchRecord> {
    return await this.#move(move, "redo", async ({ sessions }, { id }) => {
      let redone = 0;
      for (const { data } of await sessions.moves(move.sessionId, LOOK_BACK)) {
        if (data["branchId"] !== id) continue;
        if (data["why"] === "redo") redone += 1;
        else if (data["why"] !== "undo") break;
        else if (redone > 0) redone -= 1;
        else return String(data["from"]);
      }
      throw new CorralError("turn_not_found", "nothing was taken back since the last turn; there is nothing to do again");
    });
  }

  /** To any turn of the session. Throws `session_not_found`, `session_busy`, `turn_not_found`. */
  async goTo(move: Move, turnId: string): Promise<BranchRecord> {
    return await this.#move(move, "goto", async (tables) => (await turnOf(tables, move.sessionId, turnId)).id);
  }

  /** A branch from where the session stands, or from a turn; it is the one that is played on. Throws `session_not_found`, `turn_not_found`. */
  async fork({ sessionId, actor }: Move, { name, turnId }: { readonly name: string; readonly turnId?: string }): Promise<BranchRecord> {
    if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,63}$/u.test(name))
      throw new CorralError("request_invalid", "name: a branch is called by 1 to 64 letters, digits, spaces, `.`, `_` or `-`");
    return await this.#changed(sessionId, async (tables, session) => {
      const from = turnId === undefined ? await headOf(tables, session) : (await turnOf(tables, sessionId, turnId)).id;
      const at = this.#parts.clock.wallMs();
      const branch = { id: this.#parts.newId("branch"), sessionId, name, headId: from, forkedAt: from, createdAt: at };
      if (!(await tables.tree.addBranch(branch)))
        throw new CorralError("request_invalid", `name: the session has a branch ${JSON.stringify(name)}; take another one`);
      await tables.sessions.playOn(sessionId, branch.id);
      const data = { branchId: branch.id, name, turnId: from };
      await tables.sessions.append(sessionId, { at, events: [{ kind: "branch-create", actor, data }] });
      return branch;
    });
  }

  async #move(
    { sessionId, actor }: Move,
    why: Why,
    to: (tables: LoomTables, branch: BranchRecord) => Promise<string | null>,
  ): Promise<BranchRecord> {
    return await this.#changed(sessionId, async (tables, session) => {
      if ((await tables.turns.open(sessionId)).length > 0)
        throw new CorralError("session_busy", "a turn of the session runs; wait for its end, or cancel it");
      const branch = await tables.tree.branch(session.branchId);
      if (branch === undefined) throw new CorralError("internal", `the session ${sessionId} has no branch`);
      const headId = await to(tables, branch);
      await tables.tree.moveHead(branch.id, headId);
      const data = { branchId: branch.id, why, from: branch.headId, to: headId };
      await tables.sessions.append(sessionId, { at: this.#parts.clock.wallMs(), events: [{ kind: "head-move", actor, data }] });
      return { ...branch, headId };
    });
  }

  async #changed<T>(sessionId: string, act: (tables: LoomTables, session: SessionRecord) => Promise<T>): Promise<T> {
    const done = await this.#parts.store.transaction(async ({ loom }) => {
      // Locks the session: no turn begins meanwhile.
      await loom.sessions.append(sessionId, { at: this.#parts.clock.wallMs(), events: [] });
      const session = await loom.sessions.get(sessionId);
      if (session === undefined) throw new CorralError("session_not_found", `there is no session ${sessionId}`);
      return await act(loom, session);
    });
    await this.#parts.store.settled();
    return done;
  }
}

async function headOf({ tree }: LoomTables, { branchId }: SessionRecord): Promise<string | null> {
  return (await tree.branch(branchId))?.headId ?? null;
}

async function turnOf({ turns }: LoomTables, sessionId: string, turnId: string) {
  const turn = await turns.get(turnId);
  if (turn?.sessionId !== sessionId || turn.place === null)
    throw new CorralError("turn_not_found", `the session has no turn ${turnId} that began`);
  return turn;
}
