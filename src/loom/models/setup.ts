// A model by its name as a person writes it: `scripted`, `openai/gpt-5`, `anthropic/…`, `ollama/…`. Keys come from the environment that is
// handed in. Not a route. Invariant: no key is kept but in the model that uses it; without a key a name is refused, never served otherwise.

import { CorralError } from "../../api/errors.ts";
import { providerModel, type ProviderKind } from "./ai-sdk.ts";
import type { Model } from "./model.ts";
import { scriptedModel } from "./scripted.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

interface Known {
  readonly kind: ProviderKind;
  readonly key?: string;
  readonly url: string;
  readonly windowTokens: number;
}

/** Windows are what every current model of the provider takes; Ollama's is what a machine of a person holds in memory. */
const PROVIDERS: Readonly<Record<string, Known>> = {
  openai: { kind: "openai", key: "OPENAI_API_KEY", url: "OPENAI_BASE_URL", windowTokens: 128_000 },
  "openai-chat": { kind: "openai-chat", key: "OPENAI_API_KEY", url: "OPENAI_BASE_URL", windowTokens: 128_000 },
  anthropic: { kind: "anthropic", key: "ANTHROPIC_API_KEY", url: "ANTHROPIC_BASE_URL", windowTokens: 200_000 },
  ollama: { kind: "ollama", url: "OLLAMA_BASE_URL", windowTokens: 16_384 },
  compatible: { kind: "compatible", key: "COMPATIBLE_API_KEY", url: "COMPATIBLE_BASE_URL", windowTokens: 32_000 },
};
const MAX_OUTPUT_TOKENS = 2_048;

/** Throws `model_unknown`. */
export function modelNamed(spec: string, env: Environment): Model {
  if (spec === "scripted") return scriptedModel();
  const at = spec.indexOf("/");
  const [provider, name] = [spec.slice(0, Math.max(at, 0)), spec.slice(at + 1)];
  const known = PROVIDERS[provider];
  if (known === undefined || name === "")
    throw new CorralError(
      "model_unknown",
      `${JSON.stringify(spec)} is no model; write scripted, or ${Object.keys(PROVIDERS).join("/NAME, ")}/NAME`,
    );
  const apiKey = known.key === undefined ? undefined : env[known.key];
  if (known.key !== undefined && (apiKey === undefined || apiKey === ""))
    throw new CorralError("model_unknown", `${spec} needs a key; set ${known.key}, or try --model scripted`);
  const baseUrl = env[known.url];
  if (provider === "compatible" && baseUrl === undefined)
    throw new CorralError("model_unknown", `${spec} needs an address; set ${known.url}`);
  return providerModel(
    { kind: known.kind, provider, ...(apiKey === undefined ? {} : { apiKey }), ...(baseUrl === undefined ? {} : { baseUrl }) },
    { name, windowTokens: known.windowTokens, maxOutputTokens: MAX_OUTPUT_TOKENS },
  );
}
