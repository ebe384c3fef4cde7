// Shapes that several routes share. Invariant: every string from the wire is bounded and holds no NUL byte where it reaches a system call.

import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { z } from "zod";
import { MAX_SANDBOX_MS } from "../api/limits.ts";
import { PERMISSIONS } from "../api/policy.ts";

export type ZodApp = FastifyInstance<Server, IncomingMessage, ServerResponse, FastifyBaseLogger, ZodTypeProvider>;

const text = z.string().max(4_096);
export const noNul = text.refine((value) => !value.includes("\0"), "holds a NUL byte");
export const pairs = z.record(noNul.min(1).max(256), noNul).refine((value) => Object.keys(value).length <= 256, "more than 256 entries");
export const env = z.record(
  z.string().regex(/^[^=\0]{1,256}$/),
  z
    .string()
    .max(128 * 1024)
    .refine((value) => !value.includes("\0"), "holds a NUL byte"),
);
/** A line for the shell, or a program and its arguments. */
export const commandShape = z.union([z.string().min(1).max(131_072), z.array(z.string().max(131_072)).min(1).max(4_096)]);
export const ms = z.int().min(1).max(MAX_SANDBOX_MS);
export const terminalSize = z.strictObject({ rows: z.int().min(1).max(65_535), cols: z.int().min(1).max(65_535) });
export const port = z.int().min(1).max(65_535);
const rule = z.strictObject({
  pattern: text,
  permission: z.enum(PERMISSIONS as [string, ...string[]]),
  priority: z.int().optional(),
  subtree: z.boolean().optional(),
});
/** Headers of every create. */
export const idempotent = z.object({ "idempotency-key": z.string().min(1).max(255).optional() });
export const limits = z.strictObject({
  memoryBytes: z.int().positive().optional(),
  cpus: z.number().positive().max(1_024).optional(),
  pids: z.int().positive().max(4_194_304).optional(),
  openFiles: z.int().positive().max(1_048_576).optional(),
  diskBytes: z.int().positive().optional(),
  inodes: z.int().positive().optional(),
});
/** Name of a preset, or rules. */
export const policy = z.union([text, z.strictObject({ rules: z.array(rule).max(10_000) })]);
/** Of every path below `/sandboxes/:id`. */
export const sandboxParams = z.strictObject({ id: z.string().max(64) });

/** Without a parser a body stays the stream that it is. */
export function takeBodiesAsTheyCome(app: Pick<ZodApp, "removeAllContentTypeParsers" | "addContentTypeParser">): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, _payload, done) => done(null));
}
