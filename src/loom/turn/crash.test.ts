// A process that dies at every commit, before it and after it: scripted plays and random ones, each gone on with by another process over the
// same database. The death is one of the process as the store sees it: from that commit on nothing of it arrives. What SQLite itself makes of
// a real kill, test/e2e/play.test.ts tells.

import { afterAll, beforeAll, expect } from "vitest";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { engineOver, FINISH, newSessions, type Script, scriptModel, type ScriptModel, text } from "../../../test/fixtures/loom.ts";
import { verifies } from "../../../test/verifies.ts";
import { openStore, type Store } from "../../store/store.ts";
import { verifySession } from "../session/verify.ts";
import type { Engine } from "./engine.ts";

let dir: string;
let store: Store;
beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-crash-");
  store = await openStore({ kind: "sqlite", file: join(dir, "loom.db"), synchronous: "normal" });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

const NEVER = new Promise<never>(() => undefined);

/** The store of a process that dies at its n-th commit; `after`: that one is still made. Resolves `died` then. */
function dying(at: number, after: boolean): { readonly store: Store; readonly died: Promise<void>; readonly commits: () => number } {
  const { promise: died, resolve } = Promise.withResolvers<void>();
  let commits = 0;
  let dead = false;
  const die = async (): Promise<never> => {
    dead = true;
    resolve();
    return await NEVER;
  };
  return {
    died,
    commits: () => commits,
    store: {
      ...store,
      settled: () => (dead ? NEVER : store.settled()),
      transaction: async (act) => {
        if (dead) return await NEVER;
        commits += 1;
        const last = commits === at;
        if (last && !after) return await die();
        const result = await store.transaction(act);
        return last || dead ? await die() : result;
      },
    },
  };
}

interface Said {
  readonly sessionId: string;
  readonly key: string;
  readonly input: string;
  readonly onBusy: "enqueue" | "interrupt" | "rollback";
}

/** Sends one after another; what was acknowledged is in `acks`. */
async function send(engine: Engine, all: readonly Said[], acks: Map<string, string>): Promise<void> {
  for (const { sessionId, key, input, onBusy } of all) {
    const { turn } = await engine.send({ sessionId, actor: "ann", input, onBusy, idempotencyKey: key });
    acks.set(key, turn.id);
  }
  await Promise.all([...acks.values()].map((id) => engine.ended(id)));
}

/** Plays, dies, goes on; then everything that was promised is looked for. */
async function survives(seed: string, said: readonly Said[], death: { readonly at: number; readonly after: boolean }): Promise<boolean> {
  const replies = said.map(({ input }): Script => [text(`re: ${input}`), FINISH]);
  const model = scriptModel("m", ...replies, [text("again"), FINISH]);
  const prices = new Map([["test/m", { input: 1_000, cached: 100, output: 10_000 }]]);
  const sessions = [...new Set(said.map(({ sessionId }) => sessionId))];
  for (const id of sessions) await store.loom.money.setLimit({ scope: "session", scopeId: id }, 1_000_000_000);
  const first = dying(death.at, death.after);
  const acks = new Map<string, string>();
  const ignored = { prices, models: [model], onError: () => undefined };
  const one = engineOver(first.store, { ...ignored, writer: `${seed}a` });
  const over = await Promise.race([first.died.then(() => false), send(one, said, acks).then(() => true)]);
  await using two = engineOver(store, { ...ignored, writer: `${seed}b`, isDead: (writer) => writer === `${seed}a` });
  await two.start();
  await Promise.all([...acks.values()].map((id) => two.ended(id)));
  await send(two, said, new Map(acks)); // whoever was not answered sends again, with the same key
  for (const id of sessions) await agrees(seed, id, model, said);
  return over;
}

async function agrees(seed: string, sessionId: string, model: ScriptModel, said: readonly Said[]): Promise<void> {
  const session = await store.loom.sessions.get(sessionId);
  if (session === undefined) throw new Error("no session");
  expect(await verifySession(store.loom, session), seed).toEqual([]);
  const turns = await store.loom.turns.page(sessionId, 0, 100);
  const own = said.filter((one) => one.sessionId === sessionId);
  expect(turns.map(({ idemKey }) => idemKey).sort(), seed).toEqual(own.map(({ key }) => key).sort());
  let unknown = 0;
  for (const { id, state, inputHash } of turns) {
    expect(["done", "interrupted", "rolled-back"], seed).toContain(state);
    const steps = await store.loom.turns.steps(id);
    const input = await store.loom.blobs.get(sessionId, inputHash);
    const asked = model.calls.filter(({ messages }) => messages.at(-1)?.text === input).length;
    // What was asked stands in the journal, and what is known was asked once.
    expect(asked <= steps.length && steps.length <= 1, `${seed}: ${input} was asked ${asked} times`).toBe(true);
    unknown += steps.filter((step) => step.state === "unknown").length;
    expect(
      steps.some((step) => step.state === "intent"),
      seed,
    ).toBe(false);
  }
  const [budget] = await store.loom.money.budgets([{ scope: "session", scopeId: sessionId }]);
  const ledger = await store.loom.money.ledger(sessionId);
  expect([budget?.heldNano, ledger.filter(({ certainty }) => certainty === "unknown").length], seed).toEqual([0, unknown]);
  expect(budget?.spentNano, seed).toBe(ledger.reduce((sum, { nanoUsd }) => sum + (nanoUsd ?? 0), 0));
}

verifies(
  "loom/ack-never-lost",
  "whichever commit a process dies at, before it or after, every answered input reaches an end, a key is one turn, and nothing is asked or paid twice",
  async () => {
    for (const after of [false, true]) {
      for (let at = 1; ; at += 1) {
        const [sessionId = ""] = await newSessions(store, 1);
        const seed = `commit ${at}${after ? " made" : ""}`;
        const said = ["one", "two"].map(
          (input, i): Said => ({ sessionId, key: `${i}`, input: `${sessionId} ${input}`, onBusy: i === 0 ? "enqueue" : "interrupt" }),
        );
        if (await survives(seed, said, { at, after })) break;
        expect(at).toBeLessThan(20);
      }
    }
  },
);

verifies("loom/crash-seeds", "random plays over several sessions die at random commits, and nothing of that is lost either", async () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    let state = seed * 2_654_435_761;
    const next = (below: number): number => {
      state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
      return state % below;
    };
    const sessions = await newSessions(store, 1 + next(3));
    const said = Array.from({ length: 2 + next(5) }, (_, i): Said => {
      const sessionId = sessions[next(sessions.length)] ?? "";
      return {
        sessionId,
        key: `${i}`,
        input: `${sessionId} ${i}`,
        onBusy: (["enqueue", "interrupt", "rollback"] as const)[next(3)] ?? "enqueue",
      };
    });
    await survives(`seed ${seed}`, said, { at: 1 + next(16), after: next(2) === 1 });
  }
});
