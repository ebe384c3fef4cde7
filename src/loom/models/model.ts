// What the engine asks of a model, whoever serves it: messages go in, text comes piece by piece, then one end. Not retries, prices or routes.
// Invariant: a stream ends with exactly one `finish` or `failure` and never throws; a cut stream is a failure, however it was cut; after
// the signal fired it ends soon and its connection is closed.

export interface PromptMessage {
  readonly role: "system" | "user" | "assistant";
  readonly text: string;
  /** Providers that keep prefixes by mark keep all up to here. */
  readonly keep?: boolean;
}

export interface ModelCall {
  readonly messages: readonly PromptMessage[];
  readonly maxOutputTokens: number;
  readonly temperature?: number;
  readonly signal: AbortSignal;
}

/** `null`: the provider did not say. */
export interface Usage {
  readonly inputTokens: number | null;
  /** Of the input: read from the provider's cache. */
  readonly cachedTokens: number | null;
  readonly outputTokens: number | null;
  /** Of the output. */
  readonly reasoningTokens: number | null;
}

/**
 * What a failed call cost. `not-sent`: nothing left, free. `rejected`: an error status and no text, free. `partial`: text had come.
 * `unknown`: the request left, and no answer came.
 */
export type FailureClass = "not-sent" | "rejected" | "partial" | "unknown";

export interface ModelFailure {
  readonly kind: "failure";
  readonly of: FailureClass;
  /** HTTP status, where there was one. */
  readonly status?: number;
  /** The provider asked to wait so long. */
  readonly retryAfterMs?: number;
  /** What the provider said, without a key; one line. */
  readonly message: string;
}

export interface ModelFinish {
  readonly kind: "finish";
  readonly reason: "end" | "length" | "filter";
  readonly usage: Usage;
}

export interface ModelText {
  readonly kind: "text" | "reasoning";
  readonly text: string;
}

export type ModelPart = ModelText | ModelFinish | ModelFailure;

export interface Model {
  readonly provider: string;
  readonly name: string;
  /** Tokens of prompt and reply together. */
  readonly windowTokens: number;
  /** Longest reply that is asked for when nobody says otherwise, tokens. */
  readonly maxOutputTokens: number;
  stream(call: ModelCall): AsyncIterable<ModelPart>;
}

/** `provider/name`, as routes, ledgers and receipts write it. */
export function modelId({ provider, name }: Pick<Model, "provider" | "name">): string {
  return `${provider}/${name}`;
}
