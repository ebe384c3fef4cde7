// A model that is none: its reply follows from the prompt by a fixed rule, and says so. For a first run without a key, for tests and
// measurements. Invariant: the same call gives the same reply; every reply begins by saying that it is scripted.

import { createHash } from "node:crypto";
import { countTokens } from "../prompt/tokens.ts";
import type { Model, ModelCall, ModelPart } from "./model.ts";

export interface ScriptedOptions {
  /** Waits before the reply; resolves early when the signal fires. */
  readonly delay?: (signal: AbortSignal) => Promise<void>;
}

const WINDOW_TOKENS = 128_000;
const MAX_OUTPUT_TOKENS = 1_024;

export function scriptedModel({ delay }: ScriptedOptions = {}): Model {
  return {
    provider: "scripted",
    name: "scripted",
    windowTokens: WINDOW_TOKENS,
    maxOutputTokens: MAX_OUTPUT_TOKENS,
    stream: (call) => reply(call, delay),
  };
}

async function* reply({ messages, signal }: ModelCall, delay: ScriptedOptions["delay"]): AsyncGenerator<ModelPart> {
  await delay?.(signal);
  if (signal.aborted) {
    yield { kind: "failure", of: "unknown", message: "called off" };
    return;
  }
  const prompt = messages.map(({ role, text }) => `${role}\0${text}`).join("\0");
  const input = messages.findLast(({ role }) => role === "user")?.text ?? "";
  const said = input.length > 200 ? `${input.slice(0, 200)}…` : input;
  const mark = createHash("sha256").update(prompt).digest("hex").slice(0, 8);
  const parts = ["[scripted: no model was asked] ", `You said: ${said} `, `(${messages.length} messages, ${mark})`];
  for (const text of parts) yield { kind: "text", text };
  const usage = { inputTokens: countTokens(prompt), cachedTokens: 0, outputTokens: countTokens(parts.join("")), reasoningTokens: 0 };
  yield { kind: "finish", reason: "end", usage };
}
