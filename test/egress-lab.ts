// An egress proxy in this process before a network that is made up: names answer what a test says, addresses lead to servers on loopback.
// Not a proxy of its own. Invariant: nothing leaves this machine, and what the proxy dialled and told is kept.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import type { Duplex } from "node:stream";
import { basename, dirname, join } from "node:path";
import type { NetworkPolicy, NetworkVerdict } from "../src/api/network.ts";
import { systemClock } from "../src/base/clock.ts";
import { type Authority, createAuthority, LeafMint } from "../src/egress/certificate.ts";
import { ProxyCore, SOCKET_NAME } from "../src/egress/core.ts";
import { DirectSocket } from "../src/egress/direct-socket.ts";
import type { GateState } from "../src/egress/gate.ts";
import { DEFAULT_GATE_LIMITS, type GateLimits } from "../src/egress/limits.ts";
import type { Outside } from "../src/egress/outside.ts";
import type { SandboxSecret } from "../src/egress/secrets.ts";

/** All that is public, and every range by `cidr`. */
export const NO_CEILING: NetworkPolicy = {
  open: true,
  allow: [
    { cidr: "0.0.0.0/0", ports: "any" },
    { cidr: "::/0", ports: "any" },
  ],
};

export class FakeOutside implements Outside {
  /** Answers of a name, the last one for ever. */
  readonly names = new Map<string, string[][]>();
  /** `address port` to a port of loopback. */
  readonly places = new Map<string, number>();
  readonly dialled: string[] = [];
  readonly resolved: string[] = [];
  ttlMs = 0;

  resolve(name: string): Promise<{ addresses: string[]; ttlMs: number }> {
    this.resolved.push(name);
    const answers = this.names.get(name) ?? [[]];
    const now = answers.length > 1 ? answers.shift() : answers[0];
    return Promise.resolve({ addresses: now ?? [], ttlMs: this.ttlMs });
  }

  dial({ address, port }: Parameters<Outside["dial"]>[0]): Promise<Socket> {
    this.dialled.push(`${address.text} ${port}`);
    const at = this.places.get(`${address.text} ${port}`);
    return new Promise((resolve, reject) => {
      if (at === undefined) {
        reject(Object.assign(new Error("nobody there"), { code: "ECONNREFUSED" }));
        return;
      }
      const socket = new DirectSocket().connect({ host: "127.0.0.1", port: at });
      socket.once("error", reject).once("connect", () => resolve(socket));
    });
  }

  own(): [] {
    return [];
  }
}

export interface Place {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

export class EgressLab implements AsyncDisposable {
  readonly outside = new FakeOutside();
  readonly verdicts: NetworkVerdict[] = [];
  readonly dir = mkdtempSync(join(tmpdir(), "egress-"));
  readonly authority: Authority = createAuthority(Date.now());
  readonly publicAuthority: Authority = createAuthority(Date.now());
  readonly core: ProxyCore;
  readonly #publicMint = new LeafMint(this.publicAuthority);
  readonly #servers: (Server | HttpServer)[] = [];
  readonly #clients = new Set<Socket>();
  readonly #secure = new Map<string, HttpServer>();
  #next = 1;

  constructor() {
    this.core = new ProxyCore({
      authority: this.authority,
      upstreamCa: [this.publicAuthority.certificate],
      outside: this.outside,
      clock: systemClock,
      onVerdict: (verdict) => void this.verdicts.push(verdict),
    });
  }

  state(
    policy: NetworkPolicy,
    more: Partial<Omit<GateState, "limits">> & { limits?: Partial<GateLimits>; secrets?: SandboxSecret[] } = {},
  ): GateState {
    return { version: 1, ceiling: NO_CEILING, secrets: [], ...more, policy, limits: { ...DEFAULT_GATE_LIMITS, ...more.limits } };
  }

  /** Path of the sandbox's socket. */
  async open(id: string, state: GateState): Promise<string> {
    const dir = join(this.dir, id);
    mkdirSync(dir);
    await this.core.open(id, dir, state);
    return join(dir, SOCKET_NAME);
  }

  async #listen(server: Server | HttpServer, name: string, port: number): Promise<Place> {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.#servers.push(server);
    const address = `203.0.113.${this.#next++}`;
    this.outside.names.set(name, [[address]]);
    this.outside.places.set(`${address} ${port}`, (server.address() as AddressInfo).port);
    return { name, address, port };
  }

  http(name: string, handler: (request: IncomingMessage, response: ServerResponse) => void, port = 80): Promise<Place> {
    return this.#listen(createHttpServer(handler), name, port);
  }

  /** With a certificate for `certified`, which the proxy trusts. */
  https(name: string, handler: (request: IncomingMessage, response: ServerResponse) => void, certified = name): Promise<Place> {
    const { certificate, key } = this.#publicMint.leaf(certified, Date.now());
    const server = createHttpsServer({ cert: certificate, key }, handler);
    this.#secure.set(name, server);
    return this.#listen(server, name, 443);
  }

  /** What a server of `https` does when another protocol is asked for; with the authorization that came. */
  upgradeAt(name: string, handler: (socket: Duplex, authorization: string) => void): void {
    this.#secure.get(name)?.on("upgrade", ({ headers }, socket) =>
      handler(
        socket.on("error", () => socket.destroy()),
        headers.authorization ?? "",
      ),
    );
  }

  tcp(name: string, handler: (socket: Socket) => void, port = 443): Promise<Place> {
    const server = createServer({ allowHalfOpen: true }, (socket) => handler(socket.on("error", () => socket.destroy())));
    return this.#listen(server, name, port);
  }

  /** A connection of a sandbox, its first line sent. */
  enter(path: string, line: string): Socket {
    const socket = connect({ path, allowHalfOpen: true });
    socket.on("error", () => socket.destroy());
    this.#clients.add(socket);
    socket.write(`${line}\n`);
    return socket;
  }

  /** Verdicts of the sandbox with this socket, as soon as there are `count` lines. */
  async told(path: string, count = 1): Promise<readonly NetworkVerdict[]> {
    const id = basename(dirname(path));
    for (;;) {
      const some = this.verdicts.filter(({ sandboxId }) => sandboxId === id);
      if (some.length >= count) return some;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.core[Symbol.asyncDispose]();
    for (const server of this.#servers) {
      if ("closeAllConnections" in server) server.closeAllConnections();
      server.close();
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** All that comes until the other side is done, as latin1. */
export async function rest(socket: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  try {
    for await (const chunk of socket) text += Buffer.from(chunk as Uint8Array).toString("latin1");
  } catch {
    // Broken off: what came is what came.
  }
  return text;
}

/** Waits until what came holds `mark`, and gives all of it. */
export function until(socket: Socket, mark: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const onData = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (!text.includes(mark)) return;
      socket.off("data", onData).pause();
      resolve(text);
    };
    socket.on("data", onData).resume();
    socket.once("close", () => reject(new Error(`closed after ${JSON.stringify(text)}`)));
  });
}
