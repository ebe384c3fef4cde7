// The network as the proxy sees it: a resolver, and connections to addresses that were judged. Judges nothing itself.
// Invariant: a connection that is handed out stands with the very address that was asked for.

import { Resolver } from "node:dns/promises";
import type { Socket } from "node:net";
import { type Address, parseAddress, type Range } from "./address.ts";
import { DirectSocket } from "./direct-socket.ts";
import { ownRanges } from "./never.ts";

export interface Resolved {
  /** As text; empty when the name has none. */
  readonly addresses: readonly string[];
  readonly ttlMs: number;
}

export interface Dial {
  readonly address: Address;
  readonly port: number;
  readonly timeoutMs: number;
}

/** Tests hand over another one; no setting does. */
export interface Outside {
  /** Throws when no answer came. */
  resolve(name: string): Promise<Resolved>;
  /** A connected socket, half-open allowed. Throws what the system says; `ETIMEDOUT` when it took too long. */
  dial(dial: Dial): Promise<Socket>;
  /** Addresses of this node and networks of its containers. */
  own(): readonly Range[];
}

const OWN_MS = 5_000;
const RESOLVE = { timeout: 3_000, tries: 2, maxTimeout: 5_000 };

/** The real one. `servers`: resolvers to ask; absent: those of /etc/resolv.conf. */
export function realOutside(servers?: readonly string[]): Outside {
  const resolver = new Resolver(RESOLVE);
  if (servers !== undefined) resolver.setServers(servers);
  let own: { ranges: readonly Range[]; atMs: number } | undefined;
  return {
    resolve: (name) => resolveWith(resolver, name),
    dial: dialTcp,
    own: () => {
      const now = performance.now();
      if (own === undefined || now - own.atMs > OWN_MS) own = { ranges: ownRanges(), atMs: now };
      return own.ranges;
    },
  };
}

async function resolveWith(resolver: Resolver, name: string): Promise<Resolved> {
  const asked = await Promise.allSettled([resolver.resolve4(name, { ttl: true }), resolver.resolve6(name, { ttl: true })]);
  const found = asked.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  const failed = asked.find((answer) => answer.status === "rejected" && !isEmpty(answer.reason));
  if (found.length === 0 && failed?.status === "rejected") throw failed.reason;
  return { addresses: found.map(({ address }) => address), ttlMs: Math.min(...found.map(({ ttl }) => ttl * 1000)) };
}

function isEmpty(reason: unknown): boolean {
  const { code } = reason as NodeJS.ErrnoException;
  return code === "ENODATA" || code === "ENOTFOUND";
}

function dialTcp({ address, port, timeoutMs }: Dial): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new DirectSocket().connect({ host: address.text, port, family: address.family });
    const late = setTimeout(() => socket.destroy(Object.assign(new Error("no answer in time"), { code: "ETIMEDOUT" })), timeoutMs);
    socket.once("error", (error) => {
      clearTimeout(late);
      reject(error);
    });
    socket.once("connect", () => {
      clearTimeout(late);
      // SAFETY: what was judged is what is spoken to.
      if (parseAddress(socket.remoteAddress ?? "")?.text === address.text) resolve(socket);
      else socket.destroy(new Error("another address answered"));
    });
  });
}
