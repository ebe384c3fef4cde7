// How a turn comes in: counted, kept, and in the queue of its session, in one transaction. Not its beginning. Invariant: once the answer is
// given the input cannot be lost; one key is one turn, however often it is sent.

import { createHash } from "node:crypto";
import { CorralError } from "../../api/errors.ts";
import type { OnBusy, TurnKind } from "../../api/loom.ts";
import type { LoomTables } from "../../store/loom.ts";
import type { SessionRecord } from "../../store/loom-sessions.ts";
import type { BranchRecord } from "../../store/loom-tree.ts";
import type { TurnRecord } from "../../store/loom-turns.ts";
import type { TurnOptions } from "./options.ts";
import type { EngineParts } from "./parts.ts";

export interface SendRequest {
  readonly sessionId: string;
  /** Who speaks: kept with the turn. */
  readonly actor: string;
  /** Empty with `continue` alone. */
  readonly input: string;
  readonly kind?: Extract<TurnKind, "say" | "continue" | "aside">;
  /** Name of the branch; absent: the one that is played on. */
  readonly branch?: string;
  readonly onBusy?: OnBusy;
  /** The turn that the branch must stand at; `null`: none. */
  readonly expectedHead?: string | null;
  readonly priority?: number;
  readonly idempotencyKey?: string;
  readonly options?: TurnOptions;
}

export interface Accepted {
  readonly turn: TurnRecord;
  readonly session: SessionRecord;
  /** The key was sent before. */
  readonly replayed: boolean;
  /** Turns that run now and make way. */
  readonly calledOff: readonly string[];
}

const MAX_INPUT_BYTES = 256 * 1024;

/** Committed, and not yet safe from a power cut: the answer waits for that, the turn does not. */
export async function accept(parts: EngineParts, request: SendRequest): Promise<Accepted> {
  const { sessionId, input, kind = "say" } = request;
  const text = input.normalize("NFC");
  if (Buffer.byteLength(text) > MAX_INPUT_BYTES)
    throw new CorralError("request_too_large", `input: longer than ${MAX_INPUT_BYTES} bytes; send it in parts`);
  if (text.includes("\0")) throw new CorralError("request_invalid", "input: holds a NUL character");
  if ((text === "") !== (kind === "continue"))
    throw new CorralError("request_invalid", 'input: say something, or ask for kind "continue" without an input');
  return await parts.store.transaction((tables) => acceptIn(tables.loom, parts, { ...request, sessionId, kind, input: text }));
}

type Asked = SendRequest & Required<Pick<SendRequest, "kind">>;

async function acceptIn(loom: LoomTables, parts: EngineParts, request: Asked): Promise<Accepted> {
  const { sessionId, actor, input, kind, priority = 50, idempotencyKey = null, options = {}, onBusy = parts.config.onBusy } = request;
  // Locks the session: all that follows is read behind whoever changed it before.
  const n = await loom.sessions.countTurn(sessionId);
  const session = n === 0 ? undefined : await loom.sessions.get(sessionId);
  if (session === undefined) throw new CorralError("session_not_found", `there is no session ${sessionId}`);
  if (session.status !== "active")
    throw new CorralError("session_busy", `the session is ${session.status}; resume it before the next turn`);
  const idemHash = idempotencyKey === null ? null : hashOf(request);
  const before = idempotencyKey === null ? undefined : await loom.turns.byKey(sessionId, idempotencyKey);
  if (before !== undefined) {
    if (before.idemHash !== idemHash)
      throw new CorralError("idempotency_conflict", `the key was used for the turn ${before.id} with another request; take a new key`);
    return { turn: before, session, replayed: true, calledOff: [] };
  }
  const branch = await branchOf(loom, session, request);
  const open = await loom.turns.open(sessionId);
  if (onBusy === "reject" && (open.length > 0 || (await loom.turns.queued(sessionId)).length > 0))
    throw new CorralError("session_busy", "a turn of the session runs or waits; wait for its end, or send with onBusy");
  const id = parts.newId("turn");
  const at = parts.clock.wallMs();
  const [inputHash = ""] = await loom.blobs.put(sessionId, [input]);
  const row = { id, sessionId, branchId: branch.id, n, kind, priority, actor, inputHash, idemKey: idempotencyKey, idemHash };
  await loom.turns.add({ ...row, parentId: null, options: { ...options }, queuedAt: at });
  await loom.sessions.append(sessionId, { at, events: [{ kind: "turn-queue", turnId: id, actor, data: { kind, branchId: branch.id } }] });
  const turn = await loom.turns.get(id);
  if (turn === undefined) throw new CorralError("internal", `the turn ${id} was not written`);
  const calledOff = onBusy === "interrupt" || onBusy === "rollback" ? open.map((one) => one.id) : [];
  return { turn, session, replayed: false, calledOff };
}

async function branchOf(loom: LoomTables, session: SessionRecord, { branch: name, expectedHead }: Asked): Promise<BranchRecord> {
  const branch = name === undefined ? await loom.tree.branch(session.branchId) : await loom.tree.branchNamed(session.id, name);
  if (branch === undefined)
    throw new CorralError("turn_not_found", `the session has no branch ${JSON.stringify(name ?? session.branchId)}`);
  if (expectedHead !== undefined && branch.headId !== expectedHead)
    throw new CorralError(
      "head_moved",
      `the branch ${branch.name} stands at ${branch.headId ?? "its beginning"}; look at what came, then send again`,
      {
        details: { head: branch.headId },
      },
    );
  return branch;
}

/** Of what was asked, whatever the order of its keys. */
function hashOf({ input, kind, branch, priority, options = {} }: Asked): string {
  const asked = [input, kind, branch ?? null, priority ?? null, Object.entries(options).sort(([one], [other]) => (one < other ? -1 : 1))];
  return createHash("sha256").update(JSON.stringify(asked)).digest("base64url");
}
