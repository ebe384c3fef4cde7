// Heads and branches over both databases: undo and redo, forks, any turn as the next one's parent. One database of each kind serves the file.

import fc from "fast-check";
import { describe, expect, type TestContext } from "vitest";
import { DATABASES, sharedDatabases } from "../../../test/fixtures/databases.ts";
import { engineOver, enginePartsOver, newSessions, scriptModel } from "../../../test/fixtures/loom.ts";
import { verifies } from "../../../test/verifies.ts";
import { History } from "./history.ts";

const open = sharedDatabases();

async function given(kind: (typeof DATABASES)[number], context: TestContext) {
  const store = await open(kind, context);
  const [sessionId = ""] = await newSessions(store, 1);
  const model = scriptModel("m");
  const options = { models: [model] };
  const engine = engineOver(store, options);
  const say = async (input: string, more = {}) =>
    await engine.ended((await engine.send({ sessionId, actor: "ann", input, ...more })).turn.id);
  return { store, sessionId, model, engine, say, history: new History(enginePartsOver(store, options)), move: { sessionId, actor: "ann" } };
}

describe.each(DATABASES)("history in %s", (kind) => {
  verifies(
    "loom/undo-redo-inverse",
    "any run of undo and redo ends where a stack would; something new ends what could be done again",
    async (context) => {
      const { history, move, say, engine } = await given(kind, context);
      const turns = [(await say("1")).id, (await say("2")).id, (await say("3")).id];
      let [behind, ahead] = [[...turns], [] as string[]];
      const check = fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 8 }), async (steps) => {
        for (const undo of steps) {
          const from = undo ? behind.pop() : ahead.pop();
          if (from === undefined) {
            await expect(undo ? history.undo(move) : history.redo(move)).rejects.toMatchObject({ code: "turn_not_found" });
            continue;
          }
          if (undo) ahead.push(from);
          else behind.push(from);
          expect((await (undo ? history.undo(move) : history.redo(move))).headId).toBe(behind.at(-1) ?? null);
        }
      });
      await fc.assert(check, { numRuns: kind === "sqlite" ? 20 : 6, seed: 6, endOnFailure: true });
      await history.goTo(move, turns[2] ?? "");
      [behind, ahead] = [[...turns], []];
      await history.undo(move);
      const other = await say("3b");
      expect(other.parentId).toBe(turns[1]);
      await expect(history.redo(move)).rejects.toMatchObject({ code: "turn_not_found" });
      await engine[Symbol.asyncDispose]();
    },
  );

  verifies("loom/swipe-any-turn", "any turn is answered anew as a sibling; no prompt holds a word of another branch", async (context) => {
    const { history, move, say, engine, model, store, sessionId } = await given(kind, context);
    const first = await say("canary-one");
    const second = await say("canary-two");
    const anew = await say("canary-one again", { options: { behind: null } });
    expect([first.parentId, anew.parentId, anew.place?.depth]).toEqual([null, null, 1]);
    const fork = await history.fork(move, { name: "支线", turnId: first.id });
    expect([fork.headId, (await say("canary-three")).parentId]).toEqual([first.id, first.id]);
    const said =
      model.calls
        .at(-1)
        ?.messages.map(({ text }) => text)
        .join("\n") ?? "";
    expect([said.includes("canary-one"), said.includes("canary-two"), said.includes("again")]).toEqual([true, false, false]);
    await history.goTo(move, second.id);
    expect((await say("canary-four")).parentId).toBe(second.id);
    expect((await store.loom.turns.page(sessionId, 0, 10)).map(({ state }) => state)).toEqual(Array.from({ length: 5 }, () => "done"));
    await expect(history.fork(move, { name: "支线" })).rejects.toMatchObject({ code: "request_invalid" });
    await expect(history.goTo(move, "turnnone")).rejects.toMatchObject({ code: "turn_not_found" });
    await expect(history.undo({ ...move, sessionId: "sesnone" })).rejects.toMatchObject({ code: "session_not_found" });
    await engine[Symbol.asyncDispose]();
  });
});
