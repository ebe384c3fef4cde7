// The shape of a network policy as it comes in from a wire or a file. Invariant: what passes has the types of api/network.ts; what a rule
// means, and whether it can be, is judged in egress/.

import { z } from "zod";
import { MAX_NETWORK_ITEMS, MAX_NETWORK_PATH_BYTES, MAX_NETWORK_RATE_MS, MAX_NETWORK_RULES } from "../api/limits.ts";
import { NETWORK_PRESETS, SECRET_FORMATS } from "../api/network.ts";

const few = <T extends z.ZodType>(item: T) => z.array(item).max(MAX_NETWORK_ITEMS);
const ports = z.union([z.literal("any"), few(z.int().min(1).max(65_535))]);
const rate = z.strictObject({ requests: z.int().min(1).max(1_000_000_000), perMs: z.int().min(1).max(MAX_NETWORK_RATE_MS) });
const secret = z.strictObject({
  name: z.string().max(128),
  header: z.string().max(64).optional(),
  format: z.enum(SECRET_FORMATS as [string, ...string[]]).optional(),
});
const hostRule = z.strictObject({
  host: z.string().max(255),
  ports: ports.optional(),
  tls: z.boolean().optional(),
  methods: few(z.string().max(32)).optional(),
  paths: few(z.string().max(MAX_NETWORK_PATH_BYTES)).optional(),
  rate: rate.optional(),
  secrets: few(secret).optional(),
});
const cidrRule = z.strictObject({ cidr: z.string().max(64), ports: ports.optional(), rate: rate.optional() });
const allow = z.array(z.union([z.enum(NETWORK_PRESETS as [string, ...string[]]), hostRule, cidrRule])).max(MAX_NETWORK_RULES);

export const networkShape = z.union([
  z.literal("none"),
  z.strictObject({ open: z.literal(true), except: few(z.string().max(64)).optional(), allow: allow.optional() }),
  z.strictObject({ allow }),
]);
