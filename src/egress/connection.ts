// One connection of a sandbox: its two ends, its clock and what it is judged by now. Reads no protocol.
// Invariant: when either end breaks, or its rule is gone, both ends are closed; no wait is without end.

import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { NetworkReason, NetworkWay } from "../api/network.ts";
import type { Address } from "./address.ts";
import type { Flow, Gate, Verdict } from "./gate.ts";
import { Intake } from "./intake.ts";
import type { Target } from "./rules.ts";
import { Stop } from "./stop.ts";

/** A connection to outside. */
export interface Upstream {
  readonly socket: Socket;
  readonly target: Target;
  readonly address: Address;
}

/** How long half of a connection may wait for its answer, ms. */
const HALF_CLOSED_MS = 30_000;

export class Connection implements Flow {
  readonly gate: Gate;
  readonly socket: Socket;
  readonly intake: Intake;
  way: NetworkWay = "proxy";
  process: string | undefined;
  /** Why it was ended from here. */
  ended: NetworkReason | undefined;
  sentBytes = 0;
  receivedBytes = 0;
  #deadlineMs: number;
  #upstream: Upstream | undefined;
  #isCarried: () => boolean = () => true;

  constructor(gate: Gate, socket: Socket) {
    this.gate = gate;
    this.socket = socket;
    this.intake = new Intake(socket);
    this.#deadlineMs = this.#now() + gate.limits.headMs;
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#upstream?.socket.destroy());
    gate.flows.add(this);
    gate.counters.connections += 1;
  }

  #now(): number {
    return this.gate.parts.clock.monotonicMs();
  }

  /** The next thing must come within so many ms. */
  within(ms: number): void {
    this.#deadlineMs = this.#now() + ms;
  }

  /** The sandbox sends no more, and may be gone: what it still waits for must come soon. */
  hurry(): void {
    this.#deadlineMs = Math.min(this.#deadlineMs, this.#now() + HALF_CLOSED_MS);
  }

  /** Bytes passed: counts them, starts the idle time anew, and waits as long as the sandbox's rate wants it. */
  moved(direction: "sent" | "received", bytes: number): number {
    if (direction === "sent") this.sentBytes += bytes;
    else this.receivedBytes += bytes;
    const wait = this.gate.moved(direction, bytes);
    this.within(this.gate.limits.idleMs + wait);
    return wait;
  }

  async paced(direction: "sent" | "received", bytes: number): Promise<void> {
    const wait = this.moved(direction, bytes);
    if (wait > 0) await delay(wait);
  }

  /** Asked again whenever the rules change. */
  carriedWhile(isCarried: () => boolean): void {
    this.#isCarried = isCarried;
  }

  recheck(): void {
    const isReached = this.#upstream === undefined || this.gate.stillReaches(this.#upstream.target, this.#upstream.address);
    if (!isReached || !this.#isCarried()) this.end("withdrawn");
  }

  sweep(nowMs: number): void {
    if (nowMs > this.#deadlineMs) this.end("idle");
  }

  end(reason: NetworkReason): void {
    this.ended ??= reason;
    this.cut();
  }

  cut(): void {
    this.socket.destroy();
    this.#upstream?.socket.destroy();
  }

  /** Resolves, judges and dials a target. Throws `Stop`. */
  async dial(target: Target): Promise<Upstream> {
    const { gate } = this;
    const { connectMs } = gate.limits;
    this.within(2 * connectMs + 10_000);
    const addresses = await gate.addresses(target);
    if (typeof addresses === "string") throw new Stop(addresses, target);
    let reason: NetworkReason = "connect";
    for (const address of addresses) {
      try {
        this.within(2 * connectMs);
        const socket = await gate.parts.outside.dial({ address, port: target.port, timeoutMs: connectMs });
        return this.#attach({ socket, target, address });
      } catch (error) {
        reason = (error as NodeJS.ErrnoException).code === "ETIMEDOUT" ? "idle" : "connect";
      }
    }
    throw new Stop(reason, target);
  }

  #attach(upstream: Upstream): Upstream {
    this.#upstream?.socket.destroy();
    this.#upstream = upstream;
    upstream.socket.on("error", () => upstream.socket.destroy());
    // SAFETY: the rules may have changed, or the sandbox gone, while the address was dialled.
    const isReached = this.gate.stillReaches(upstream.target, upstream.address);
    if (this.socket.destroyed || !isReached) {
      upstream.socket.destroy();
      throw new Stop(this.ended ?? "withdrawn", upstream.target);
    }
    return upstream;
  }

  detach(): void {
    this.#upstream?.socket.destroy();
    this.#upstream = undefined;
  }

  /** One verdict; bytes since the last one. */
  tell(verdict: Omit<Verdict, "way" | "sentBytes" | "receivedBytes" | "process">): void {
    const { sentBytes, receivedBytes, process } = this;
    this.sentBytes = 0;
    this.receivedBytes = 0;
    this.gate.tell(this.way, { ...verdict, sentBytes, receivedBytes, ...(process === undefined ? {} : { process }) });
  }

  /** Counts until what was written last is out, or was not taken in time. */
  close(): void {
    this.detach();
    const done = (): void => void this.gate.flows.delete(this);
    if (this.socket.destroyed) return done();
    this.socket.once("close", done);
    this.within(this.gate.limits.headMs);
    this.socket.destroySoon();
  }
}
