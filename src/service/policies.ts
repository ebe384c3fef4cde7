// Questions about policies, of owners: about a text, about rules, about the policy that a sandbox stands under. Nothing is judged here or in
// this thread. Invariant: a key for one sandbox, which may be held inside it, is told nothing of rules.

import { CorralError, type ErrorBody } from "../api/errors.ts";
import type { CheckOptions, ExplainOptions, PolicyCheck, PolicyExplanation } from "../api/policies.ts";
import type { Policy } from "../api/policy.ts";
import type { CreateSandboxBody } from "../api/server.ts";
import type { Token } from "../store/tokens.ts";
import { PolicyThread } from "./policy-thread.ts";
import type { PolicyQuestion } from "./policy-worker.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { policyOf } from "./stands.ts";

export class Policies implements AsyncDisposable {
  readonly #sandboxes: Sandboxes;
  readonly #thread = new PolicyThread();

  constructor(sandboxes: Sandboxes) {
    this.#sandboxes = sandboxes;
  }

  async check(token: Token, text: string, { format }: Pick<CheckOptions, "format"> = {}): Promise<PolicyCheck> {
    return await this.#ask(token, { ask: "check", text, ...(format === undefined ? {} : { format }) });
  }

  async explain(
    token: Token,
    policy: string | Pick<Policy, "rules">,
    { path, kind }: { readonly path: string } & Pick<ExplainOptions, "kind">,
  ): Promise<PolicyExplanation> {
    return await this.#ask(token, { ask: "explain", policy, path, ...(kind === undefined ? {} : { kind }) });
  }

  /** Also of one that ended, whose delta may be left. */
  async explainOf(token: Token, id: string, about: { readonly path: string } & Pick<ExplainOptions, "kind">): Promise<PolicyExplanation> {
    const { request } = await this.#sandboxes.reach(token, id);
    return await this.explain(token, policyOf(request as CreateSandboxBody), about);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#thread[Symbol.asyncDispose]();
  }

  async #ask<T extends PolicyCheck | PolicyExplanation>(token: Token, question: PolicyQuestion): Promise<T> {
    if (token.scope === "sandbox")
      throw new CorralError("forbidden", "a key for one sandbox is told nothing of policies; use a key of scope user");
    const answered = await this.#thread.ask(token.ownerId, question);
    if ("error" in answered) throw asError(answered.error);
    return answered.answer as T;
  }
}

function asError({ code, message, details }: ErrorBody): CorralError {
  return new CorralError(code, message, details === undefined ? {} : { details });
}
