// Every provider's binding over its real protocol by HTTP: text, usage, ends, refusals, and the ways in which a stream is cut. One server
// speaks all protocols; a second one of ours says what no server should.

import { LLMock } from "@copilotkit/aimock";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { verifies } from "../../../test/verifies.ts";
import { providerModel, type ProviderKind } from "./ai-sdk.ts";
import type { ModelPart } from "./model.ts";

const KEY = "sk-secret-of-this-test";
const KINDS = ["openai", "openai-chat", "anthropic", "ollama", "compatible"] as const;

const mock = new LLMock({ port: 0, host: "127.0.0.1" });
let rude: Server;
let answer: (path: string, response: ServerResponse) => void = () => undefined;
let seen = 0;
let nowhere = "";

beforeAll(async () => {
  const usage = { input_tokens: 12, output_tokens: 7, prompt_tokens: 12, completion_tokens: 7, total_tokens: 19 };
  mock.onMessage("hello", { content: "Good evening, 旅人.", usage });
  mock.onMessage("limit", { error: { message: `slow down, ${KEY}`, type: "rate_limit_error" }, status: 429, retryAfter: 3 });
  mock.onMessage("bad", { error: { message: "no such parameter" }, status: 400 });
  mock.on(
    { userMessage: "cut" },
    { content: "one two three four five six seven eight nine ten" },
    { chunkSize: 4, truncateAfterChunks: 6, latency: 5 },
  );
  await mock.start();
  rude = createServer((request, response) => {
    seen += 1;
    request.resume();
    answer(request.url ?? "", response);
  });
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  nowhere = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
  closed.close();
  rude.listen(0, "127.0.0.1");
  await once(rude, "listening");
});
afterAll(async () => {
  await mock.stop();
  rude.closeAllConnections();
  rude.close();
});

function urlOf(kind: ProviderKind, origin: string): string {
  return kind === "ollama" ? origin : `${origin}/v1`;
}

async function said(
  kind: ProviderKind,
  input: string,
  { origin = mock.url, signal = new AbortController().signal } = {},
): Promise<readonly ModelPart[]> {
  const model = providerModel(
    { kind, provider: kind, baseUrl: urlOf(kind, origin), apiKey: KEY },
    { name: "gpt-test", windowTokens: 8_000, maxOutputTokens: 100 },
  );
  const parts: ModelPart[] = [];
  const messages = [
    { role: "system", text: "Rules.", keep: true },
    { role: "user", text: input },
  ] as const;
  for await (const part of model.stream({ messages, maxOutputTokens: 100, temperature: 0.5, signal })) parts.push(part);
  return parts;
}

function textOf(parts: readonly ModelPart[]): string {
  return parts.map((part) => (part.kind === "text" ? part.text : "")).join("");
}

describe.each(KINDS)("a model by %s", (kind) => {
  verifies("loom/model-conformance", "text comes in pieces, then one end with the provider's own usage", async () => {
    const parts = await said(kind, "hello");
    expect(textOf(parts)).toBe("Good evening, 旅人.");
    // The server counts nothing on Ollama's wire: what is not told stays unknown, and is no 0.
    const usage = kind === "ollama" ? { inputTokens: null, outputTokens: null } : { inputTokens: 12, outputTokens: 7 };
    expect(parts.at(-1)).toMatchObject({ kind: "finish", reason: "end", usage });
    expect(parts.filter((part) => part.kind === "finish" || part.kind === "failure").length).toBe(1);
  });

  verifies("loom/model-refusals", "an error status is told with the time to wait, free of charge and without the key", async () => {
    const limited = (await said(kind, "limit")).at(-1);
    expect(limited).toMatchObject({ kind: "failure", of: "rejected", status: 429 });
    if (kind !== "ollama") expect(limited).toMatchObject({ retryAfterMs: 3_000 });
    expect(JSON.stringify(limited)).not.toContain(KEY);
    expect((await said(kind, "bad")).at(-1)).toMatchObject({ kind: "failure", of: "rejected", status: 400 });
    expect((await said(kind, "hello", { origin: nowhere })).at(-1)).toMatchObject({ kind: "failure", of: "not-sent" });
  });

  verifies(
    "loom/cut-stream-is-error",
    "a stream that is cut, ends clean without a finish, or holds no protocol is a failure, never a reply",
    async () => {
      const cut = await said(kind, "cut");
      expect([textOf(cut).length > 0, cut.at(-1)]).toMatchObject([true, { kind: "failure", of: "partial" }]);
      const address = `http://127.0.0.1:${(rude.address() as AddressInfo).port}`;
      const types = { "content-type": kind === "ollama" ? "application/x-ndjson" : "text/event-stream" };
      answer = (_path, response) => response.writeHead(200, types).end();
      expect((await said(kind, "x", { origin: address })).at(-1)).toMatchObject({ kind: "failure", of: "unknown" });
      answer = (_path, response) => response.writeHead(200, types).end('data: {"nonsense": [\n\nnot a protocol\n\n');
      expect((await said(kind, "x", { origin: address })).at(-1)?.kind).toBe("failure");
      answer = (_path, response) => response.socket?.destroy();
      expect((await said(kind, "x", { origin: address })).at(-1)?.kind).toBe("failure");
    },
  );

  verifies("loom/model-abort", "a call that is called off closes its connection, asks nothing again, and ends", async () => {
    const closed = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    answer = (_path, response) => {
      response.on("close", () => closed.resolve());
      asked.resolve();
    };
    const before = seen;
    const controller = new AbortController();
    const address = `http://127.0.0.1:${(rude.address() as AddressInfo).port}`;
    const parts = said(kind, "x", { origin: address, signal: controller.signal });
    await asked.promise;
    controller.abort();
    expect((await parts).at(-1)?.kind).toBe("failure");
    await closed.promise;
    expect(seen - before).toBe(1);
  });
});
