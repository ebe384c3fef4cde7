// Turns over both databases: order, double sends, keys, time-outs, retries, streams and what is left of a process that died. One database
// of each kind serves the whole file.

import { describe, expect, type TestContext } from "vitest";
import { DATABASES, sharedDatabases } from "../../../test/fixtures/databases.ts";
import { engineOver, failure, FINISH, ManualTime, newSessions, scriptModel, text } from "../../../test/fixtures/loom.ts";
import { verifies } from "../../../test/verifies.ts";
import type { TurnFrame } from "../../api/loom.ts";
import type { Store } from "../../store/store.ts";
import type { Engine } from "./engine.ts";

const open = sharedDatabases();

async function given(kind: (typeof DATABASES)[number], context: TestContext) {
  const store = await open(kind, context);
  const [sessionId = ""] = await newSessions(store, 1);
  return { store, sessionId, say: (engine: Engine, input: string, more = {}) => engine.send({ sessionId, actor: "ann", input, ...more }) };
}

async function output(store: Store, turnId: string): Promise<string | undefined> {
  const turn = await store.loom.turns.get(turnId);
  return turn === undefined || turn.outputHash === null ? undefined : await store.loom.blobs.get(turn.sessionId, turn.outputHash);
}

async function frames(engine: Engine, turnId: string, after?: string): Promise<readonly TurnFrame[]> {
  const all: TurnFrame[] = [];
  for await (const frame of engine.follow({ turnId, ...(after === undefined ? {} : { after }) })) all.push(frame);
  return all;
}

function told(all: readonly TurnFrame[]): string {
  return all.map((frame) => (frame.kind === "text-chunk" ? frame.text : "")).join("");
}

async function kinds(store: Store, sessionId: string): Promise<string> {
  return (await store.loom.sessions.events(sessionId, { seq: 0 })).map(({ kind }) => kind).join(" ");
}

describe.each(DATABASES)("turns in %s", (kind) => {
  verifies("loom/turn-plain", "a turn is answered, ends, moves the head, and the next one is asked with what was said", async (context) => {
    const { store, sessionId, say } = await given(kind, context);
    const model = scriptModel("m");
    await using engine = engineOver(store, { models: [model] });
    const { turn } = await say(engine, "one");
    const first = await engine.ended(turn.id);
    const second = await engine.ended((await say(engine, "two")).turn.id);
    expect([first.state, first.stopReason, await output(store, turn.id)]).toEqual(["done", "end", "re: one"]);
    expect([second.parentId, second.place, second.chain === first.chain]).toEqual([turn.id, { lane: 1, depth: 2 }, false]);
    expect(model.calls[1]?.messages.map(({ role, text: said }) => `${role}: ${said.split("\n").at(-1)}`)).toEqual([
      "system: Answer.",
      "user: one",
      "assistant: re: one",
      "user: two",
    ]);
    const once = "turn-queue turn-start step-start step-end turn-end head-move";
    expect(await kinds(store, sessionId)).toBe(`session-create ${once} ${once}`);
    const session = await store.loom.sessions.get(sessionId);
    expect([session?.writer, (await store.loom.tree.branch(session?.branchId ?? ""))?.headId]).toEqual([null, second.id]);
    expect((await store.loom.money.ledger(sessionId)).map(({ inputTokens, certainty }) => [inputTokens, certainty])).toEqual([
      [10, "exact"],
      [10, "exact"],
    ]);
  });

  verifies(
    "loom/idempotent-send",
    "a key that is sent again is the same turn, and another request under it is refused",
    async (context) => {
      const { store, say } = await given(kind, context);
      const model = scriptModel("m");
      await using engine = engineOver(store, { models: [model] });
      const sent = await Promise.all(Array.from({ length: 4 }, () => say(engine, "once", { idempotencyKey: "k" })));
      expect([new Set(sent.map(({ turn }) => turn.id)).size, sent.filter(({ replayed }) => !replayed).length]).toEqual([1, 1]);
      await engine.ended(sent[0]?.turn.id ?? "");
      await expect(say(engine, "twice", { idempotencyKey: "k" })).rejects.toMatchObject({ code: "idempotency_conflict" });
      expect(model.calls.length).toBe(1);
    },
  );

  verifies(
    "loom/double-send",
    "of a second turn the sender says whether it is refused, waits, interrupts or takes back the first",
    async (context) => {
      const { store, sessionId, say } = await given(kind, context);
      const model = scriptModel("m", [text("part"), "hang"], [text("b"), FINISH], [text("c"), "hang"], [text("d"), FINISH]);
      await using engine = engineOver(store, { models: [model] });
      const one = (await say(engine, "1")).turn.id;
      await model.called(1);
      await expect(say(engine, "no", { onBusy: "reject" })).rejects.toMatchObject({ code: "session_busy" });
      const two = (await say(engine, "2", { onBusy: "interrupt" })).turn.id;
      const first = await engine.ended(one);
      expect([first.state, first.stopReason, await output(store, one)]).toEqual(["interrupted", "interrupted", "part"]);
      expect((await engine.ended(two)).parentId).toBe(one);
      const three = (await say(engine, "3")).turn.id;
      await model.called(3);
      const four = (await say(engine, "4", { onBusy: "rollback" })).turn.id;
      expect((await engine.ended(three)).state).toBe("rolled-back");
      expect((await engine.ended(four)).parentId).toBe(two);
      const head = (await store.loom.tree.branches(sessionId))[0]?.headId;
      expect(head).toBe(four);
      await expect(say(engine, "5", { expectedHead: two })).rejects.toMatchObject({ code: "head_moved", details: { head: four } });
    },
  );

  verifies("loom/cancel-reaches-provider", "a cancel closes the provider's connection; a follower who leaves does not", async (context) => {
    const { store, sessionId, say } = await given(kind, context);
    const model = scriptModel("m", [text("so far"), "hang"]);
    await using engine = engineOver(store, { models: [model] });
    const { turn } = await say(engine, "1");
    const waits = (await say(engine, "2")).turn.id;
    for await (const frame of engine.follow({ turnId: turn.id })) if (frame.kind === "text-chunk") break;
    expect(model.calls[0]?.signal.aborted).toBe(false);
    await engine.cancel(waits);
    await engine.cancel(turn.id);
    expect([(await engine.ended(turn.id)).state, (await engine.ended(waits)).state]).toEqual(["cancelled", "cancelled"]);
    expect([model.calls[0]?.signal.aborted, model.calls.length]).toEqual([true, 1]);
    expect((await store.loom.tree.branches(sessionId))[0]?.headId).toBe(null);
    await engine.cancel(turn.id); // an end state stays
    await expect(engine.cancel("turnnone")).rejects.toMatchObject({ code: "turn_not_found" });
  });

  verifies(
    "loom/cursor-resume",
    "a follower goes on from any place, while the turn runs and after, and the text is the same",
    async (context) => {
      const { store, say } = await given(kind, context);
      const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
      const model = scriptModel("m", [
        text("日a"),
        gates[0].promise,
        { kind: "reasoning", text: "hm" },
        text("bc"),
        gates[1].promise,
        text("d"),
        FINISH,
      ]);
      await using engine = engineOver(store, { models: [model] });
      const { turn } = await say(engine, "1");
      const live: TurnFrame[] = [];
      for await (const frame of engine.follow({ turnId: turn.id })) {
        live.push(frame);
        gates[live.length === 1 ? 0 : 1].resolve();
      }
      expect([told(live), live.at(-1)?.kind]).toEqual(["日abcd", "turn-end"]);
      const whole = "日a|hm|bcd".replaceAll("|", "");
      for (let offset = 0; offset <= whole.length; offset += 1) {
        const rest = await frames(engine, turn.id, `1.1.${offset}`);
        expect(rest.map((frame) => ("text" in frame ? frame.text : "")).join("")).toBe(whole.slice(offset));
      }
      for (const frame of live.slice(0, -1)) {
        const behind = live.slice(live.indexOf(frame) + 1);
        expect(told(await frames(engine, turn.id, frame.cursor))).toBe(told(behind));
      }
      await expect(frames(engine, turn.id, "2.0.x")).rejects.toMatchObject({ code: "request_invalid" });
    },
  );

  verifies(
    "loom/retry",
    "a call that failed is made again, what it had told is taken back, and the next model is asked at last",
    async (context) => {
      const { store, sessionId, say } = await given(kind, context);
      const first = scriptModel(
        "m1",
        [failure("rejected", { status: 429, retryAfterMs: 60_000 })],
        [text("half"), failure("partial")],
        [failure("rejected", { status: 404 })],
      );
      const other = scriptModel("m2", [text("whole"), FINISH]);
      const time = new ManualTime();
      await using engine = engineOver(store, { models: [first, other], time });
      const { turn } = await say(engine, "1");
      await time.armed(60_000);
      time.advance(59_999); // no earlier than the provider asked
      expect(first.calls.length).toBe(1);
      time.advance(1);
      await engine.ended(turn.id);
      const all = await frames(engine, turn.id);
      expect(all.map((frame) => (frame.kind === "text-chunk" ? frame.text : frame.kind))).toEqual([
        "attempt-drop",
        "half",
        "attempt-drop",
        "attempt-drop",
        "whole",
        "turn-end",
      ]);
      expect([await output(store, turn.id), (await store.loom.turns.get(turn.id))?.state]).toEqual(["whole", "done"]);
      expect((await store.loom.turns.steps(turn.id)).map(({ name, state }) => `${name} ${state}`)).toEqual([
        "test/m1 failed",
        "test/m1 failed",
        "test/m1 failed",
        "test/m2 done",
      ]);
      // Only what streamed cost something.
      expect((await store.loom.money.ledger(sessionId)).map(({ attempt, certainty }) => [attempt, certainty])).toEqual([
        [2, "estimated"],
        [4, "exact"],
      ]);
    },
  );

  verifies(
    "loom/outage-is-error",
    "a provider that is down ends the turn with an error, and no text stands in for a reply",
    async (context) => {
      const { store, sessionId, say } = await given(kind, context);
      const model = scriptModel("m", [failure("rejected", { status: 401 })]);
      await using engine = engineOver(store, { models: [model] });
      const turn = await engine.ended((await say(engine, "1")).turn.id);
      expect([turn.state, turn.stopReason, turn.error?.code, turn.outputHash]).toEqual(["error", "error", "model_failed", null]);
      expect((await store.loom.tree.branches(sessionId))[0]?.headId).toBe(null);
      await using none = engineOver(store, { models: [], writer: "w1" });
      expect((await none.ended((await say(none, "2")).turn.id)).error?.code).toBe("model_unknown");
    },
  );

  verifies("loom/timeout-aborts", "each time-out closes the connection and is told as one", async (context) => {
    const { store, say } = await given(kind, context);
    const timeouts = { firstChunkMs: 11, betweenChunksMs: 22, callMs: 3_333, turnMs: 44_444 };
    const rows = [
      { script: ["hang"], ms: 11, attempts: 1, state: "error" },
      { script: [text("a"), "hang"], ms: 22, attempts: 4, state: "error" },
      { script: [text("a"), "hang"], ms: 3_333, attempts: 1, state: "error" },
      { script: [text("a"), "hang"], ms: 44_444, attempts: 1, state: "error" },
    ] as const;
    for (const { script, ms, attempts, state } of rows) {
      const model = scriptModel("m", script);
      const time = new ManualTime();
      // What is not this row's is out of reach.
      const own = Object.fromEntries(Object.entries(timeouts).map(([name, value]) => [name, value === ms ? value : value * 1e6]));
      await using engine = engineOver(store, { models: [model], time, config: { timeouts: { ...timeouts, ...own } } });
      const { turn } = await say(engine, "1");
      for (let attempt = 1; attempt <= attempts; attempt += 1) {
        await model.called(attempt);
        if (ms > 11) await time.armed(22 * (ms === 22 ? 1 : 1e6)); // its first text has come
        await time.armed(ms);
        time.advance(ms);
      }
      const ended = await engine.ended(turn.id);
      expect([ended.state, ended.stopReason, model.calls.length]).toEqual([state, "timeout", attempts]);
      expect(model.calls.every(({ signal }) => signal.aborted)).toBe(true);
    }
  });

  verifies(
    "loom/unknown-is-said",
    "of a process that died, what waited runs, what was told is kept, what is unknown is told and not asked again",
    async (context) => {
      const { store, sessionId, say } = await given(kind, context);
      const model = scriptModel("m", [text("before the "), "hang"], [text("next"), FINISH]);
      const died = engineOver(store, { models: [model], writer: "dead", onError: () => undefined });
      const { turn } = await say(died, "1");
      const waits = (await say(died, "2")).turn.id;
      for await (const frame of died.follow({ turnId: turn.id })) if (frame.kind === "text-chunk") break;
      const alive = { models: [model], writer: "w2" };
      await using other = engineOver(store, { ...alive, isDead: () => false });
      await other.start(); // its writer lives: nothing happens
      expect((await store.loom.turns.get(turn.id))?.state).toBe("running");
      await using engine = engineOver(store, { ...alive, writer: "w3", isDead: (writer) => writer === "dead" });
      await engine.start();
      const first = await engine.ended(turn.id);
      expect([first.state, first.stopReason, await output(store, turn.id)]).toEqual(["interrupted", "unknown", "before the "]);
      const second = await engine.ended(waits);
      expect([second.state, second.parentId, await output(store, waits), model.calls.length]).toEqual(["done", turn.id, "next", 2]);
      expect((await store.loom.money.ledger(sessionId)).map(({ certainty }) => certainty)).toEqual(["unknown", "exact"]);
      expect(told(await frames(engine, turn.id))).toBe("before the ");
      // The dead one was only slow: it changes nothing more.
      const events = await kinds(store, sessionId);
      await died[Symbol.asyncDispose]();
      expect(await kinds(store, sessionId)).toBe(events);
      expect((await store.loom.turns.get(turn.id))?.state).toBe("interrupted");
    },
  );

  verifies(
    "loom/unknown-retried",
    "where the operator says so, a call whose outcome is unknown is made again, and both are in the ledger",
    async (context) => {
      const { store, sessionId, say } = await given(kind, context);
      const model = scriptModel("m", [text("lost"), "hang"], [text("again"), FINISH]);
      const died = engineOver(store, { models: [model], writer: "dead", onError: () => undefined });
      const { turn } = await say(died, "1");
      for await (const frame of died.follow({ turnId: turn.id })) if (frame.kind === "text-chunk") break;
      await using engine = engineOver(store, { models: [model], writer: "w2", isDead: () => true, config: { onUnknown: "retry" } });
      await engine.start();
      expect([(await engine.ended(turn.id)).state, await output(store, turn.id)]).toEqual(["done", "again"]);
      expect((await frames(engine, turn.id)).map((one) => (one.kind === "text-chunk" ? one.text : one.kind))).toEqual([
        "lost",
        "attempt-drop",
        "again",
        "turn-end",
      ]);
      expect((await store.loom.money.ledger(sessionId)).map(({ certainty }) => certainty)).toEqual(["unknown", "exact"]);
      await died[Symbol.asyncDispose]();
    },
  );

  verifies(
    "loom/budget-never-passed",
    "however many turns run at once, what is held and spent passes no limit, and who comes too late is told",
    async (context) => {
      const { store } = await given(kind, context);
      const sessions = await newSessions(store, 12, "rich");
      const model = scriptModel("m");
      const prices = new Map([["test/m", { input: 1_000, cached: 100, output: 10_000 }]]);
      const scope = { scope: "user", scopeId: "rich" } as const;
      await store.loom.money.setLimit(scope, 20_000_000);
      await using engine = engineOver(store, { models: [model], prices });
      const sent = await Promise.all(sessions.map((sessionId) => engine.send({ sessionId, actor: "rich", input: "x" })));
      const states = await Promise.all(sent.map(async ({ turn }) => await engine.ended(turn.id)));
      const [budget] = await store.loom.money.budgets([scope]);
      const done = states.filter(({ state }) => state === "done").length;
      expect([done > 0, done < 12, budget?.heldNano, budget?.spentNano]).toEqual([true, true, 0, done * 60_000]);
      const refused = states.find(({ state }) => state === "error");
      expect([refused?.stopReason, refused?.error?.code, model.calls.length]).toEqual(["budget", "budget_exhausted", done]);
      const [own = ""] = await newSessions(store, 1, "poor");
      const limited = await engine.send({ sessionId: own, actor: "poor", input: "x", options: { budgetNano: 10 } });
      expect((await engine.ended(limited.turn.id)).error?.code).toBe("budget_exhausted");
      await using free = engineOver(store, { models: [model] });
      const unpriced = await free.send({ sessionId: sessions[0] ?? "", actor: "rich", input: "x" });
      expect((await free.ended(unpriced.turn.id)).error?.code).toBe("price_unknown");
    },
  );
});
