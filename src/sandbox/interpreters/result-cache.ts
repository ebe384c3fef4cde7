// Answers of code whose caller says that it depends on nothing but its text, input and variables. Not state: a context's answers hold only as
// long as nothing else was run in it. Invariant: what is kept is bounded, ended well, and is told as `cached`.

import { createHash } from "node:crypto";
import type { CodeAnswer, CodeSinks, RunAlone, RunCode } from "../../api/contexts.ts";
import { MAX_CACHED_ANSWER_BYTES, MAX_CACHED_ANSWERS } from "../../api/limits.ts";

const NOTHING = new Uint8Array();

export class ResultCache {
  readonly #answers = new Map<string, CodeAnswer>();

  clear(): void {
    this.#answers.clear();
  }

  /** `alone`: each call begins from the same state; else one that runs takes what others left out of here. */
  async answer<T extends RunCode>(request: T, run: (request: T) => Promise<CodeAnswer>, alone: boolean): Promise<CodeAnswer> {
    if (request.cache !== true) {
      if (!alone) this.clear();
      return await run(request);
    }
    const key = keyOf(request);
    const known = this.#answers.get(key);
    if (known !== undefined) return await told({ ...known, cached: true, durationMs: 0, freshBecause: null }, request);
    if (!alone) this.clear();
    // Collected, so that it can be told again.
    const { onStarted: _started, onStdout: _stdout, onStderr: _stderr, onResult: _result, ...plain } = request;
    const answer = await run(plain as unknown as T);
    if (answer.status === "ok" && !answer.truncated && sizeOf(answer) <= MAX_CACHED_ANSWER_BYTES) this.#keep(key, answer);
    return await told(answer, request);
  }

  #keep(key: string, answer: CodeAnswer): void {
    const [oldest] = this.#answers.keys();
    if (this.#answers.size >= MAX_CACHED_ANSWERS && oldest !== undefined) this.#answers.delete(oldest);
    this.#answers.set(key, answer);
  }
}

function keyOf({ code, input, env = {}, language, cwd, outputBytes }: RunCode & Partial<Pick<RunAlone, "language" | "cwd">>): string {
  const parts = [code, input ?? null, Object.entries(env).toSorted(), language ?? null, cwd ?? null, outputBytes ?? null];
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64");
}

function sizeOf({ stdout, stderr, results }: CodeAnswer): number {
  return stdout.length + stderr.length + JSON.stringify(results).length;
}

/** To the sinks that there are; the rest stays in the answer. */
async function told(answer: CodeAnswer, { onStarted, onStdout, onStderr, onResult }: CodeSinks): Promise<CodeAnswer> {
  onStarted?.({ executionCount: answer.executionCount, freshBecause: answer.freshBecause });
  if (answer.stdout.length > 0) await onStdout?.(answer.stdout);
  if (answer.stderr.length > 0) await onStderr?.(answer.stderr);
  if (onResult !== undefined) for (const result of answer.results) await onResult(result);
  return {
    ...answer,
    ...(onStdout === undefined ? {} : { stdout: NOTHING }),
    ...(onStderr === undefined ? {} : { stderr: NOTHING }),
    ...(onResult === undefined ? {} : { results: [] }),
  };
}
