// Which bodies of a create may be asked for, and by whom. Invariant: nothing reads a directory of this machine without the right to it.

import { CorralError } from "../api/errors.ts";
import type { CreateSandboxBody } from "../api/server.ts";
import type { Token } from "../store/tokens.ts";

export function demandMakeable(token: Token, body: CreateSandboxBody): void {
  if (token.scope === "sandbox") throw new CorralError("forbidden", "a key for one sandbox makes no other; use a key of scope user");
  if (body.codebaseDir !== undefined && body.codebase !== undefined)
    throw new CorralError("request_invalid", "codebaseDir and codebase: a sandbox stands on one of them");
  if (body.snapshot !== undefined && (body.codebaseDir ?? body.codebase ?? body.template ?? body.policy) !== undefined)
    throw new CorralError("request_invalid", "snapshot: it brings its codebase, template and policy along; leave those out");
  // SAFETY: whoever may name a directory reads it with the server's rights.
  if (body.codebaseDir !== undefined && token.scope !== "admin")
    throw new CorralError("forbidden", "codebaseDir names a directory of the server's machine, which takes a key of scope admin");
}
