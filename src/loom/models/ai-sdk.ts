// Models of real providers by the AI SDK's bindings: OpenAI (Responses and chat), Anthropic, Ollama, and whatever speaks OpenAI's protocol.
// One call of a binding is one request: retries, tools and the loop are ours. Invariant: whichever way a stream is cut (an error part, an
// exception, an end without a finish) it is one failure; no key is in a message.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, type LanguageModelV4, type LanguageModelV4Prompt, type LanguageModelV4Usage } from "@ai-sdk/provider";
import { createOllama } from "ai-sdk-ollama";
import type { Model, ModelCall, ModelFailure, ModelPart, PromptMessage, Usage } from "./model.ts";

export type ProviderKind = "openai" | "openai-chat" | "anthropic" | "ollama" | "compatible";

export interface ProviderOptions {
  readonly kind: ProviderKind;
  /** As routes, ledgers and receipts name it. */
  readonly provider: string;
  /** Where it listens, when not at its maker's own address. */
  readonly baseUrl?: string;
  readonly apiKey?: string;
}

export interface ModelOptions {
  readonly name: string;
  readonly windowTokens: number;
  readonly maxOutputTokens: number;
}

const MAX_MESSAGE = 300;

export function providerModel(options: ProviderOptions, { name, windowTokens, maxOutputTokens }: ModelOptions): Model {
  const binding = bound(options, name, windowTokens);
  return {
    ...{ provider: options.provider, name, windowTokens, maxOutputTokens },
    stream: (call) => stream(binding(call.signal), options, call),
  };
}

type Binding = (signal: AbortSignal) => LanguageModelV4;

function bound({ kind, provider, baseUrl, apiKey = "none" }: ProviderOptions, name: string, windowTokens: number): Binding {
  if (kind === "ollama") return (signal) => ollama({ baseUrl, name, windowTokens, signal });
  const model = made(kind, { provider, apiKey, baseUrl }, name);
  return () => model;
}

interface Made {
  readonly provider: string;
  readonly apiKey: string;
  readonly baseUrl: string | undefined;
}

function made(kind: Exclude<ProviderKind, "ollama">, { provider, apiKey, baseUrl }: Made, name: string): LanguageModelV4 {
  const at = baseUrl === undefined ? {} : { baseURL: baseUrl };
  switch (kind) {
    case "openai":
      return createOpenAI({ apiKey, ...at }).responses(name);
    case "openai-chat":
      return createOpenAI({ apiKey, ...at }).chat(name);
    case "anthropic":
      return createAnthropic({ apiKey, ...at }).languageModel(name);
    case "compatible":
      return createOpenAICompatible({ name: provider, apiKey, baseURL: baseUrl ?? "", includeUsage: true }).chatModel(name);
  }
}

interface OllamaCall {
  readonly baseUrl: string | undefined;
  readonly name: string;
  readonly windowTokens: number;
  readonly signal: AbortSignal;
}

/** Of one call: Ollama's client closes no connection on which nothing came yet, so the signal goes to the request itself. */
function ollama({ baseUrl, name, windowTokens, signal }: OllamaCall): LanguageModelV4 {
  const asked: typeof fetch = async (input, init) =>
    await fetch(input, { ...init, signal: init?.signal ? AbortSignal.any([init.signal, signal]) : signal });
  // Without `num_ctx` Ollama cuts a longer prompt, and says nothing.
  return createOllama({ fetch: asked, ...(baseUrl === undefined ? {} : { baseURL: baseUrl }) })(name, {
    options: { num_ctx: windowTokens },
  });
}

async function* stream(model: LanguageModelV4, { kind, apiKey }: ProviderOptions, call: ModelCall): AsyncGenerator<ModelPart> {
  const { messages, maxOutputTokens, temperature, signal } = call;
  let began = false;
  try {
    const { stream: parts } = await model.doStream({
      ...{ prompt: promptOf(messages), maxOutputTokens, abortSignal: signal },
      ...(temperature === undefined ? {} : { temperature }),
      ...(kind === "openai" ? { providerOptions: { openai: { store: false } } } : {}),
    });
    for await (const part of parts) {
      if (part.type === "text-delta" || part.type === "reasoning-delta") {
        if (part.delta === "") continue;
        began = true;
        yield { kind: part.type === "text-delta" ? "text" : "reasoning", text: part.delta };
      } else if (part.type === "error") {
        yield failureOf(part.error, began, apiKey);
        return;
      } else if (part.type === "finish") {
        yield ended(part.finishReason.unified, part.usage, began);
        return;
      }
    }
    yield { kind: "failure", of: began ? "partial" : "unknown", message: "the stream ended without an end" };
  } catch (error) {
    yield failureOf(error, began, apiKey);
  }
}

function ended(reason: string, usage: LanguageModelV4Usage, began: boolean): ModelPart {
  const counted = usageOf(usage, began);
  if (reason === "stop" || reason === "tool-calls") return { kind: "finish", reason: "end", usage: counted };
  if (reason === "length") return { kind: "finish", reason: "length", usage: counted };
  if (reason === "content-filter") return { kind: "finish", reason: "filter", usage: counted };
  return { kind: "failure", of: began ? "partial" : "unknown", message: `the stream ended with ${JSON.stringify(reason)}` };
}

/** A prompt of no tokens is one that was not counted, and so is text of none. */
function usageOf({ inputTokens, outputTokens }: LanguageModelV4Usage, began: boolean): Usage {
  const said = (count: number | undefined, least: number): number | null =>
    count === undefined || !Number.isFinite(count) || count < least ? null : count;
  return {
    ...{ inputTokens: said(inputTokens.total, 1), cachedTokens: said(inputTokens.cacheRead, 0) },
    ...{ outputTokens: said(outputTokens.total, Number(began)), reasoningTokens: said(outputTokens.reasoning, 0) },
  };
}

function promptOf(messages: readonly PromptMessage[]): LanguageModelV4Prompt {
  return messages.map(({ role, text, keep = false }) => {
    // Anthropic's mark; the others ignore it, and keep prefixes by themselves.
    const mark = keep ? { providerOptions: { anthropic: { cacheControl: { type: "ephemeral" } } } } : {};
    return role === "system" ? { role, content: text, ...mark } : { role, content: [{ type: "text", text }], ...mark };
  });
}

function failureOf(error: unknown, began: boolean, apiKey: string | undefined): ModelFailure {
  const message = told(error, apiKey);
  if (began) return { kind: "failure", of: "partial", message };
  const status = statusOf(error);
  if (status !== undefined && status >= 400) return { kind: "failure", of: "rejected", status, ...retryAfterOf(error), message };
  return { kind: "failure", of: neverSent(error) ? "not-sent" : "unknown", message };
}

function statusOf(error: unknown): number | undefined {
  for (const at of causes(error)) {
    if (APICallError.isInstance(at)) return at.statusCode;
    // Ollama's own client.
    const { status_code: status } = at as { readonly status_code?: unknown };
    if (typeof status === "number") return status;
  }
  return undefined;
}

/** An error and what it came from. */
function causes(error: unknown): readonly object[] {
  const found: object[] = [];
  for (let at = error; typeof at === "object" && at !== null && found.length < 6; at = (at as Error).cause) found.push(at);
  return found;
}

function retryAfterOf(error: unknown): { readonly retryAfterMs?: number } {
  const headers = APICallError.isInstance(error) ? error.responseHeaders : undefined;
  const exact = Number(headers?.["retry-after-ms"]);
  if (exact > 0) return { retryAfterMs: exact };
  const seconds = Number(headers?.["retry-after"]);
  if (seconds > 0) return { retryAfterMs: seconds * 1000 };
  return {};
}

/** Refused, not found, not trusted: the request never left. */
const BEFORE_SENDING =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT|CERT_|ERR_TLS|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/;

function neverSent(error: unknown): boolean {
  return causes(error).some((at) => {
    const { code } = at as { readonly code?: unknown };
    return typeof code === "string" && BEFORE_SENDING.test(code);
  });
}

/** One line of what the provider said, without the key that it may repeat. */
function told(error: unknown, apiKey: string | undefined): string {
  const said = causes(error).map((at) => (at as Partial<Error>).message ?? "it failed");
  const message = [...new Set(said)].slice(0, 2).join(": ") || "it failed";
  const safe = apiKey === undefined || apiKey === "" ? message : message.replaceAll(apiKey, "[key]");
  const line = safe.replace(/[\s\p{Cc}]+/gu, " ").trim();
  return line.length > MAX_MESSAGE ? `${line.slice(0, MAX_MESSAGE)}…` : line;
}
