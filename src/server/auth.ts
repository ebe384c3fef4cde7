// Who asks: the key of a request becomes the token it stands for. What a token may do is asked where it is done.
// Invariant: a request without a key that holds reaches no handler; a key is taken from the Authorization header and from nowhere else.

import type { FastifyInstance } from "fastify";
import { CorralError } from "../api/errors.ts";
import type { Clock } from "../base/clock.ts";
import type { Store } from "../store/store.ts";
import type { Token } from "../store/tokens.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set before any handler below /v1 runs. */
    token: Token;
  }
}

const BEARER = /^Bearer ([a-z0-9]{1,128})$/i;

export function requireKey(v1: FastifyInstance, { store, clock }: { readonly store: Store; readonly clock: Clock }): void {
  v1.decorateRequest("token");
  v1.addHook("onRequest", async (request) => {
    const secret = BEARER.exec(request.headers.authorization ?? "")?.[1];
    if (secret === undefined) throw new CorralError("unauthorized", "send a key: Authorization: Bearer KEY");
    const token = await store.tokens.find(secret, clock.wallMs());
    if (token === undefined) throw new CorralError("unauthorized", "the key is unknown, was revoked or has expired");
    request.token = token;
  });
}
