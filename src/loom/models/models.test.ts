// Retries, circuits and prices as rules. Pure: time and chance are numbers.

import { expect } from "vitest";
import { failure, ManualTime } from "../../../test/fixtures/loom.ts";
import { verifies } from "../../../test/verifies.ts";
import { Breaker } from "./breaker.ts";
import { costOf, holdFor } from "./prices.ts";
import type { ModelPart } from "./model.ts";
import { mayRetry, retryDelayMs } from "./retry.ts";
import { scriptedModel } from "./scripted.ts";

verifies(
  "loom/retry-jitter",
  "what may become right is asked again, after any time up to a bound that doubles, and no sooner than was asked for",
  () => {
    const again = [408, 409, 425, 429, 500, 502, 503, 504, 529];
    for (let status = 400; status < 600; status += 1)
      expect(mayRetry(failure("rejected", { status })), `${status}`).toBe(again.includes(status));
    expect((["not-sent", "partial", "unknown", "rejected"] as const).map((of) => mayRetry(failure(of)))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([1, 2, 3, 10].map((attempt) => retryDelayMs(failure("partial"), attempt, 1))).toEqual([500, 1_000, 2_000, 30_000]);
    expect(retryDelayMs(failure("partial"), 3, 0)).toBe(0);
    expect(retryDelayMs(failure("rejected", { retryAfterMs: 7_000 }), 1, 0.5)).toBe(7_000);
  },
);

verifies(
  "loom/breaker",
  "a circuit opens at half of five failures in a minute, lets one call try after half a minute, and its end decides",
  () => {
    const time = new ManualTime();
    const breaker = new Breaker(time);
    for (const ok of [true, true, false, true, false]) breaker.ended(ok);
    expect(breaker.admits()).toBe(true);
    breaker.ended(false); // three of six
    expect([breaker.open, breaker.admits()]).toEqual([true, false]);
    time.advance(30_000);
    expect([breaker.admits(), breaker.admits()]).toEqual([true, false]);
    breaker.ended(undefined); // called off: says nothing
    expect(breaker.admits()).toBe(true);
    breaker.ended(false);
    expect(breaker.admits()).toBe(false);
    time.advance(30_000);
    expect(breaker.admits()).toBe(true);
    breaker.ended(true);
    expect([breaker.open, breaker.admits()]).toEqual([false, true]);
    for (let i = 0; i < 4; i += 1) breaker.ended(false);
    time.advance(60_000); // too long ago to count
    breaker.ended(false);
    expect(breaker.open).toBe(false);
  },
);

verifies(
  "loom/prices",
  "what is held covers what the counted prompt and the longest reply cost; usage that was not told has no cost",
  () => {
    const price = { input: 3_000, cached: 300, output: 15_000 };
    const usage = { inputTokens: 100, cachedTokens: 40, outputTokens: 10, reasoningTokens: 2 };
    expect(costOf(price, usage)).toBe(60 * 3_000 + 40 * 300 + 10 * 15_000);
    expect(holdFor(price, { promptTokens: 100, maxOutputTokens: 10 })).toBeGreaterThan(100 * 3_000 + 10 * 15_000 - 1);
    expect(costOf(price, { ...usage, outputTokens: null })).toBeUndefined();
    expect(costOf(price, { ...usage, cachedTokens: 1_000 })).toBe(100 * 300 + 10 * 15_000);
  },
);

verifies(
  "loom/scripted-says-so",
  "the scripted model says that it is scripted, answers the same call alike, and can be called off",
  async () => {
    const model = scriptedModel();
    const said = async (signal = new AbortController().signal): Promise<readonly ModelPart[]> => {
      const parts: ModelPart[] = [];
      for await (const part of model.stream({ messages: [{ role: "user", text: "hello" }], maxOutputTokens: 100, signal }))
        parts.push(part);
      return parts;
    };
    const parts = await said();
    expect([parts[0], parts.at(-1)?.kind]).toEqual([{ kind: "text", text: "[scripted: no model was asked] " }, "finish"]);
    expect(await said()).toEqual(parts);
    expect((await said(AbortSignal.abort())).map(({ kind }) => kind)).toEqual(["failure"]);
  },
);
