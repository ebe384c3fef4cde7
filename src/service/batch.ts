// Many creates in one call: each succeeds or tells its error, as if it had been asked alone. Invariant: rights, quotas and idempotency are
// those of a single create; a few are made at once, so that a batch starves nobody.

import { CorralError, type ErrorBody } from "../api/errors.ts";
import { MAX_BATCH } from "../api/limits.ts";
import type { BatchItem, CreateSandboxBody, SandboxResource } from "../api/server.ts";
import type { Token } from "../store/tokens.ts";
import type { Sandboxes } from "./sandboxes.ts";

const AT_ONCE = 4;

/** In the order of `bodies`. A repeated batch with the same key gives what the first one made, and tries again what failed. */
export async function createBatch(
  sandboxes: Sandboxes,
  token: Token,
  bodies: readonly CreateSandboxBody[],
  key?: string,
): Promise<readonly BatchItem[]> {
  if (bodies.length === 0 || bodies.length > MAX_BATCH)
    throw new CorralError("request_invalid", `items: a batch has between 1 and ${MAX_BATCH} sandboxes`);
  return await inBatch(bodies.length, (index) =>
    sandboxes.create(token, bodies[index] ?? {}, key === undefined ? undefined : `${key}#${index}`),
  );
}

/** `make` for each index below `count`; what it throws is the error of that one alone. */
export async function inBatch(count: number, make: (index: number) => Promise<SandboxResource>): Promise<readonly BatchItem[]> {
  const results: BatchItem[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) {
      try {
        results[index] = { sandbox: await make(index) };
      } catch (error) {
        results[index] = { error: told(error) };
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

function told(error: unknown): ErrorBody {
  if (!(error instanceof CorralError)) return { code: "internal", message: "the server failed in a way nobody foresaw" };
  const { code, message, details } = error;
  return { code, message, ...(details === undefined ? {} : { details }) };
}
