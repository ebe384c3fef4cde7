// An egress proxy in this process before a network that is made up: names answer what a test says, addresses lead to servers on loopback.
// Not a proxy of its own. Invariant: nothing leaves this machine, and what the proxy dialled and told is kept.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import type { Duplex } from "node:stream";
import { basename, dirname, join } from "node:path";
import { connect as tlsConnect, type TLSSocket } from "node:tls";
import type { NetworkPolicy, NetworkVerdict } from "../api/network.ts";
import { systemClock } from "../base/clock.ts";
import { type Authority, createAuthority, LeafMint } from "../egress/certificate.ts";
import { ProxyCore, SOCKET_NAME } from "../egress/core.ts";
import { DirectSocket } from "../egress/direct-socket.ts";
import type { GateState } from "../egress/gate.ts";
import { DEFAULT_GATE_LIMITS, type GateLimits } from "../egress/limits.ts";
import type { Range } from "../egress/address.ts";
import type { Outside } from "../egress/outside.ts";
import { newPlaceholder, type SandboxSecret } from "../egress/secrets.ts";
import type { Door, SandboxDoors } from "../sandbox/doors.ts";

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
  /** Addresses that stand for this node's. */
  readonly ownRanges: Range[] = [];
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

  own(): readonly Range[] {
    return this.ownRanges;
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
  #sandboxes = 1;

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

  /** The same, of a sandbox whose id is nobody's concern. */
  async sandbox(...state: Parameters<EgressLab["state"]>): Promise<string> {
    return await this.open(`sb-${this.#sandboxes++}`, this.state(...state));
  }

  /** For real sandboxes: with `secrets` for every one, under placeholders of its own; authorities are not put in. */
  doors(secrets: Readonly<Record<string, string>>): SandboxDoors {
    return {
      open: async (id, policy): Promise<Door> => {
        const own = Object.entries(secrets).map(([name, value]) => ({ name, value, placeholder: newPlaceholder() }));
        const socket = await this.open(id, this.state(policy, { secrets: own }));
        return { socket, env: Object.fromEntries(own.map(({ name, placeholder }) => [name, placeholder])), mounts: [] };
      },
      close: (id) => this.core.close(id),
    };
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

  /** All that comes back when a sandbox sends this (latin1) behind its first line. */
  async ask(path: string, request: string, line = "proxy -"): Promise<string> {
    const socket = this.enter(path, line);
    socket.write(Buffer.from(request, "latin1"));
    return await rest(socket);
  }

  /** TLS of a program inside, which trusts the proxy's authority, to a name. */
  tls(path: string, host: string): TLSSocket {
    const inner = tlsConnect({ socket: this.enter(path, `name ${host} 443 -`), servername: host, ca: [this.authority.certificate] });
    return inner.on("error", () => inner.destroy());
  }

  async askTls(path: string, host: string, request: string): Promise<string> {
    const inner = this.tls(path, host);
    inner.write(request);
    return await rest(inner);
  }

  /** Ends a sandbox whose connections are ending. Every verdict of it. */
  async close(path: string): Promise<readonly NetworkVerdict[]> {
    const id = basename(dirname(path));
    const isOpen = (): boolean => this.core.metrics().some((gate) => gate.id === id && gate.open > 0);
    while (isOpen()) await new Promise((resolve) => setTimeout(resolve, 5));
    await this.core.close(id);
    return this.verdicts.filter(({ sandboxId }) => sandboxId === id);
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

/** A request, after which the connection ends. `more`: lines with their ends. */
export function get(url: string, host: string, more = "", method = "GET"): string {
  return `${method} ${url} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`;
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
