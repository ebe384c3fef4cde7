// What is in a prompt, in which order, and what leaves it first. Pure.

import { expect } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { assemble, type AssembleRequest } from "./assemble.ts";
import { countTokens } from "./tokens.ts";

function request(turns: number, more: Partial<AssembleRequest> = {}): AssembleRequest {
  const history = Array.from({ length: turns }, (_, i) => ({
    ...{ id: `t${i}`, input: `ask ${i} `.repeat(10), output: `answer ${i} `.repeat(40) },
    tokens: countTokens(`ask ${i} `.repeat(10)) + countTokens(`answer ${i} `.repeat(40)),
  }));
  const fixed = { model: { id: "test/m", windowTokens: 4_000 }, maxOutputTokens: 500, canon: { id: "can1", text: "the rules" } };
  return { ...fixed, history, input: { hash: "h", text: "now" }, ...more };
}

verifies("loom/canon-never-cut", "canon and input are in every prompt whole; what cannot fit is an error that names them", () => {
  for (const turns of [0, 1, 30, 200]) {
    const { messages, receipt } = assemble(request(turns));
    expect(messages[0]?.text.endsWith("the rules") && messages.at(-1)?.text === "now").toBe(true);
    expect(receipt.promptTokens + 500).toBeLessThanOrEqual(4_000 * 0.95);
    expect((receipt.history?.turns ?? 0) + receipt.out.length).toBe(turns);
  }
  const canon = { id: "can1", text: "世".repeat(4_000) };
  expect(() => assemble(request(0, { canon }))).toThrow(/canon \(4000 tokens\).*test\/m/);
});

verifies("loom/prefix-stable", "from turn to turn a prompt begins as the one before, but where whole blocks of history leave", () => {
  let before: readonly string[] = [];
  let breaks = 0;
  for (let turns = 0; turns < 120; turns += 1) {
    const said = assemble(request(turns)).messages.map(({ role, text }) => `${role} ${text}`);
    const kept = before.slice(0, -1).every((one, i) => one === said[i]);
    breaks += Number(!kept);
    before = said;
  }
  expect(breaks).toBeGreaterThan(0);
  expect(breaks).toBeLessThan(120 / 6);
});

verifies("loom/engine-blind", "renaming every word, its class of characters kept, changes no order, no section and no cut", () => {
  // A bijection of letters: rules of a story become noise.
  const renamed = (text: string): string =>
    text
      .replace(/[a-z]/g, (letter) => String.fromCharCode(97 + ((letter.charCodeAt(0) - 97 + 11) % 26)))
      .replace(/[\u4E00-\u4FFF]/g, (one) => String.fromCharCode(one.charCodeAt(0) ^ 1));
  const plain = request(90, {
    canon: { id: "can1", text: "The dead do not return. 死者不能复生。Magic costs blood." },
    input: { hash: "h", text: "revive her [OOC: please]" },
  });
  const history = plain.history.map((turn) => ({ ...turn, input: renamed(turn.input), output: renamed(turn.output) }));
  const other = assemble({
    ...plain,
    history,
    canon: { id: "can1", text: renamed(plain.canon.text) },
    input: { hash: "h", text: renamed(plain.input.text) },
  });
  const first = assemble(plain);
  expect(other.receipt).toEqual(first.receipt);
  expect(other.messages.slice(1).map(({ text }) => text)).toEqual(first.messages.slice(1).map(({ text }) => renamed(text)));
});

verifies("loom/tokens", "a count of tokens is never less in parts than in whole, and counts wide characters one by one", () => {
  expect([countTokens(""), countTokens("word word"), countTokens("世界观"), countTokens("é")]).toEqual([0, 3, 3, 1]);
  const text = "The rain 雨 falls — é. ".repeat(20);
  for (let at = 0; at <= text.length; at += 7)
    expect(countTokens(text.slice(0, at)) + countTokens(text.slice(at))).toBeGreaterThanOrEqual(countTokens(text));
});
