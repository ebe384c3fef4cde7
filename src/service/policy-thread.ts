// One thread that answers questions about policies, one at a time and each within POLICY_ANSWER_MS: an owner's globs and rules may cost what
// they like, and the server's own thread waits for none of them. Invariant: a question that takes longer ends the thread, not the server;
// an owner has one question here at most, so that nobody waits for more than the other owners' one each.

import { Worker } from "node:worker_threads";
import { CorralError } from "../api/errors.ts";
import { MAX_POLICY_QUESTIONS, POLICY_ANSWER_MS, POLICY_THREAD_IDLE_MS, POLICY_THREAD_MIB } from "../api/limits.ts";
import type { PolicyAnswer, PolicyQuestion } from "./policy-worker.ts";

/** Of the thread's short-lived values, MiB. */
const YOUNG_MIB = 32;

export class PolicyThread implements AsyncDisposable {
  readonly #owners = new Set<string>();
  #thread: Thread | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** The end of the question before. */
  #before: Promise<unknown> = Promise.resolve();

  async ask(ownerId: string, question: PolicyQuestion): Promise<PolicyAnswer> {
    if (this.#owners.has(ownerId))
      throw new CorralError("limit_reached", `${ownerId} has a question about a policy under way already; wait for its answer`);
    if (this.#owners.size >= MAX_POLICY_QUESTIONS)
      throw new CorralError("overloaded", `${MAX_POLICY_QUESTIONS} questions about policies wait already; ask again`);
    this.#owners.add(ownerId);
    try {
      const answer = this.#before.then(() => this.#answer(question));
      this.#before = answer.catch(() => undefined);
      return await answer;
    } finally {
      this.#owners.delete(ownerId);
    }
  }

  async #answer(question: PolicyQuestion): Promise<PolicyAnswer> {
    clearTimeout(this.#idle);
    const thread = (this.#thread ??= new Thread());
    try {
      const answer = await thread.answer(question);
      this.#idle = setTimeout(() => void this.#end(), POLICY_THREAD_IDLE_MS);
      this.#idle.unref();
      return answer;
    } catch (error) {
      await this.#end();
      throw error;
    }
  }

  async #end(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle);
    await this.#before;
    clearTimeout(this.#idle);
    await this.#end();
  }
}

/** Until the first question that it does not answer. */
class Thread {
  readonly #worker: Worker;
  readonly #started = Promise.withResolvers<void>();
  #waiting: PromiseWithResolvers<PolicyAnswer> | undefined;

  constructor() {
    this.#worker = new Worker(new URL("./policy-worker.ts", import.meta.url), {
      name: "policies",
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: POLICY_THREAD_MIB, maxYoungGenerationSizeMb: YOUNG_MIB },
    });
    this.#worker.unref();
    this.#worker.on("message", (told: PolicyAnswer | "ready") => {
      if (told === "ready") this.#started.resolve();
      else this.#waiting?.resolve(told);
    });
    const fail = (error: Error): void => {
      this.#started.reject(error);
      this.#waiting?.reject(error);
    };
    this.#started.promise.catch(() => undefined); // whoever asks is told
    this.#worker.on("error", (error: NodeJS.ErrnoException) => fail(error.code === "ERR_WORKER_OUT_OF_MEMORY" ? tooComplex() : error));
    this.#worker.on("exit", () => fail(new CorralError("internal", "the thread that judges policies ended by itself")));
  }

  async answer(question: PolicyQuestion): Promise<PolicyAnswer> {
    // Its start is not the question's fault.
    await this.#started.promise;
    const waiting = Promise.withResolvers<PolicyAnswer>();
    this.#waiting = waiting;
    const timer = setTimeout(() => waiting.reject(tooComplex()), POLICY_ANSWER_MS);
    this.#worker.postMessage(question);
    try {
      return await waiting.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    this.#waiting = undefined;
    await this.#worker.terminate();
  }
}

function tooComplex(): CorralError {
  const most = `${POLICY_ANSWER_MS} ms or ${POLICY_THREAD_MIB} MiB`;
  return new CorralError(
    "policy_too_complex",
    `judging this policy takes more than ${most}; write fewer rules, with fewer wildcards in each`,
  );
}
