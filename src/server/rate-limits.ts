// How often a key, and how often an address without one, may ask. Kept in this process's memory.
// Invariant: memory is bounded by construction: keys are those that hold, and addresses share a fixed number of buckets, chosen by a salt
// that nobody outside knows; who may not ask is told when to come again.

import { createHash, randomBytes } from "node:crypto";
import { isIPv6 } from "node:net";
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { CorralError } from "../api/errors.ts";
import type { ServerConfig } from "../config/schema.ts";
import type { Token } from "../store/tokens.ts";

export interface RateLimits {
  /** Counts one request of a key. Throws `rate_limited`. */
  countToken(token: Token): Promise<void>;
  /** Counts one request without a key that holds. Throws `rate_limited`. */
  countStranger(address: string): Promise<void>;
  /** Whether the address has no such request left. */
  isSpent(address: string): Promise<boolean>;
}

type Rate = ServerConfig["rateLimits"]["perToken"];

/** Two bytes of a hash. An address that shares its bucket with a noisy one is refused at worst as long as a window. */
const BUCKET_BYTES = 2;

export function rateLimits({ perToken, perAddress }: ServerConfig["rateLimits"]): RateLimits {
  const salt = randomBytes(16);
  const tokens = limiterOf(perToken);
  const strangers = limiterOf(perAddress);
  const bucketOf = (address: string): string =>
    createHash("sha256").update(salt).update(networkOf(address)).digest().subarray(0, BUCKET_BYTES).toString("hex");
  return {
    countToken: ({ id }) => consume(tokens, id, "this key"),
    countStranger: (address) => consume(strangers, bucketOf(address), "this address without a key that holds"),
    isSpent: async (address) => ((await strangers?.get(bucketOf(address)))?.remainingPoints ?? 1) <= 0,
  };
}

function limiterOf({ requests, windowMs }: Rate): RateLimiterAbstract | undefined {
  return requests === null ? undefined : new RateLimiterMemory({ points: requests, duration: windowMs / 1000 });
}

async function consume(limiter: RateLimiterAbstract | undefined, key: string, whose: string): Promise<void> {
  try {
    await limiter?.consume(key);
  } catch (refusal) {
    if (!(refusal instanceof RateLimiterRes)) throw refusal;
    const retryAfterMs = Math.max(1, Math.ceil(refusal.msBeforeNext));
    throw new CorralError("rate_limited", `too many requests of ${whose}; ask again in ${retryAfterMs} ms`, { details: { retryAfterMs } });
  }
}

/** One subscriber has a whole /64 of IPv6: its addresses count as one. */
function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [left = "", right] = address.split("%")[0]?.split("::") ?? [];
  const groups = left === "" ? [] : left.split(":");
  const tail = right === undefined || right === "" ? [] : right.split(":");
  const zeros = right === undefined ? 0 : Math.max(0, 8 - groups.length - tail.length);
  return [...groups, ...Array.from({ length: zeros }, () => "0"), ...tail]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16))
    .join(":");
}
