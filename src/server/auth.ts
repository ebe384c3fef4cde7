// Who asks: the key of a request becomes the token it stands for. What a token may do is asked where it is done.
// Invariant: a request without a key that holds reaches no handler, and none outlives its key; a key is taken from the
// Authorization header and from nowhere else.

import type { FastifyInstance } from "fastify";
import { CorralError } from "../api/errors.ts";
import type { Service } from "../service/service.ts";
import type { Token } from "../store/tokens.ts";
import { staged } from "./observe.ts";
import type { RateLimits } from "./rate-limits.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set before any handler below /v1 runs. */
    token: Token;
  }
}

const BEARER = /^Bearer ([a-z0-9]{1,128})$/i;

/** Below this plugin nothing is answered without a key, and no key more often than it may. */
export function requireKey(app: FastifyInstance, { keys }: Service, limits: RateLimits): void {
  app.decorateRequest("token");
  app.addHook("onRequest", (request, reply) =>
    staged(request, "auth", async () => {
      const secret = BEARER.exec(request.headers.authorization ?? "")?.[1];
      // SAFETY: an address that guesses keys is refused before the database is asked, or guessing would take its connections. Keys that
      // held lately pass: their owners may sit behind the same address.
      if (secret === undefined || (!keys.heldLately(secret) && (await limits.isSpent(request.ip)))) await limits.countStranger(request.ip);
      if (secret === undefined) throw new CorralError("unauthorized", "send a key: Authorization: Bearer KEY");
      const token = await keys.find(secret);
      if (token === undefined) {
        await limits.countStranger(request.ip);
        throw new CorralError("unauthorized", "the key is unknown, was revoked or has expired");
      }
      request.token = token;
      // A stream may outlive its key: then its connection goes.
      const held = keys.hold(token, () => request.raw.socket.destroy());
      reply.raw.once("close", () => held[Symbol.dispose]());
      await limits.countToken(token);
    }),
  );
}
