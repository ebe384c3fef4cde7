// Starts the server and ends it: lock, store, local client, service, HTTP, in this order, and back. Invariant: the address is told when it
// answers; the admin key is told once, at the first start of a data directory; at the end no sandbox is left.

import type { AddressInfo } from "node:net";
import { CorralError } from "../api/errors.ts";
import { DRAIN_MS } from "../api/limits.ts";
import type { Clock } from "../base/clock.ts";
import type { Service } from "../service/service.ts";
import type { Store } from "../store/store.ts";
import { buildApp } from "./app.ts";

export interface ServeOptions {
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
  readonly origins: readonly string[];
}

export interface Serving extends AsyncDisposable {
  readonly url: string;
  /** The admin key, at the first start; `null` later. */
  readonly key: string | null;
}

export interface ServeParts {
  readonly store: Store;
  readonly service: Service;
  readonly clock: Clock;
  readonly version: string;
  /** Where defects are told, a line each. */
  readonly log: (line: string) => void;
}

export async function startServer(parts: ServeParts, { host, port, origins }: ServeOptions): Promise<Serving> {
  const app = await buildApp({ ...parts, origins });
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const { code = "unknown" } = cause as NodeJS.ErrnoException;
    throw new CorralError("port_unavailable", `the server cannot listen on ${host}:${port} (${code}); choose another with --port`, {
      cause,
    });
  }
  const { port: taken } = app.server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${taken}`,
    key: await firstKey(parts),
    [Symbol.asyncDispose]: async () => {
      const cut = setTimeout(() => app.server.closeAllConnections(), DRAIN_MS);
      await app.close();
      clearTimeout(cut);
    },
  };
}

async function firstKey({ store, clock }: ServeParts): Promise<string | null> {
  if (await store.tokens.any()) return null;
  return (await store.tokens.issue({ ownerId: "admin", scope: "admin", name: "first start", now: clock.wallMs() })).secret;
}
