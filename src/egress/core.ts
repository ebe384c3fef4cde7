// The proxy: a socket for each sandbox, and what comes by it carried through that sandbox's gate. Starts no process and keeps no file but
// the sockets. Invariant: which socket a connection came by is which sandbox it is; a gate that is closed leaves no connection.

import { rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import type { NetworkVerdict } from "../api/network.ts";
import type { Clock } from "../base/clock.ts";
import { Audit } from "./audit.ts";
import { carryConnection, type CarryParts } from "./carry.ts";
import { type Authority, LeafMint } from "./certificate.ts";
import { Gate, type GateState } from "./gate.ts";
import { SWEEP_MS, TOLD_CONNECTIONS } from "./limits.ts";
import type { Outside } from "./outside.ts";

/** Name of the socket in a sandbox's directory. */
export const SOCKET_NAME = "egress";
/** SAFETY: a sandbox's user has no id of ours: it may pass the directory and connect, and can change neither. */
export const SOCKET_DIR_MODE = 0o711;
const SOCKET_UMASK = 0o111;
/** Connections that the kernel holds for a sandbox before we take them. */
const BACKLOG = 256;

export interface CoreParts {
  readonly authority: Authority;
  readonly upstreamCa: readonly string[];
  readonly outside: Outside;
  readonly clock: Clock;
  readonly onVerdict: (verdict: NetworkVerdict) => void;
}

export interface GateMetrics {
  readonly id: string;
  /** Now open. */
  readonly open: number;
  readonly connections: number;
  readonly refused: number;
  readonly limited: number;
  /** Time by which its byte rate held it back, of all connections together, ms. */
  readonly slowedMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

interface Door {
  /** Connections and bytes that were told by `news`. */
  told: number;
  readonly gate: Gate;
  readonly server: Server;
  readonly dir: string;
}

export class ProxyCore implements AsyncDisposable {
  readonly #parts: CoreParts;
  readonly #carry: CarryParts;
  readonly #audit: Audit;
  readonly #doors = new Map<string, Door>();
  readonly #sweep: NodeJS.Timeout;

  constructor(parts: CoreParts) {
    this.#parts = parts;
    this.#carry = { mint: new LeafMint(parts.authority), upstreamCa: parts.upstreamCa };
    this.#audit = new Audit(parts.clock, parts.onVerdict);
    this.#sweep = setInterval(() => this.#sweepAll(), SWEEP_MS);
  }

  #sweepAll(): void {
    const now = this.#parts.clock.monotonicMs();
    for (const { gate } of this.#doors.values()) for (const flow of gate.flows) flow.sweep(now);
  }

  /** Listens at `dir`/egress, where nobody listens any more. Throws what is wrong with the policy or the directory. */
  async open(id: string, dir: string, state: GateState): Promise<void> {
    if (this.#doors.has(id)) throw new Error(`${id} is open already`);
    const { outside, clock } = this.#parts;
    const gate = new Gate(id, state, { outside, clock, tell: (of, verdict) => this.#audit.take(of, verdict) });
    const path = `${dir}/${SOCKET_NAME}`;
    rmSync(path, { force: true });
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => void carryConnection(gate, socket, this.#carry));
    server.maxConnections = gate.limits.connections + 2 * TOLD_CONNECTIONS;
    this.#doors.set(id, { told: 0, gate, server, dir });
    try {
      await listen(server, path);
    } catch (error) {
      this.#doors.delete(id);
      throw error;
    }
  }

  update(id: string, state: GateState): void {
    this.#door(id).gate.replace(state);
  }

  /** Ends every connection and takes the socket away; the directory is the caller's. */
  async close(id: string): Promise<void> {
    const { gate, server, dir } = this.#door(id);
    this.#doors.delete(id);
    const closed = new Promise((resolve) => server.close(resolve));
    for (const flow of gate.flows) flow.cut();
    await closed;
    rmSync(`${dir}/${SOCKET_NAME}`, { force: true });
    this.#audit.flush();
  }

  #door(id: string): Door {
    const door = this.#doors.get(id);
    if (door === undefined) throw new Error(`${id} is not open`);
    return door;
  }

  metrics(): GateMetrics[] {
    return [...this.#doors.values()].map(metricsOf);
  }

  /** Of those that moved since it was asked last. */
  news(): GateMetrics[] {
    const moved = [...this.#doors.values()].filter((door) => {
      const { connections, sentBytes, receivedBytes, refused } = door.gate.counters;
      const before = door.told;
      door.told = connections + sentBytes + receivedBytes + refused;
      return door.told !== before;
    });
    return moved.map(metricsOf);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweep);
    await Promise.all([...this.#doors.keys()].map((id) => this.close(id)));
    this.#audit.flush();
  }
}

function metricsOf({ gate }: Pick<Door, "gate">): GateMetrics {
  return { id: gate.id, open: gate.flows.size, ...gate.counters };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const before = process.umask(SOCKET_UMASK);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.off("error", reject);
      resolve();
    });
    process.umask(before);
  });
}
