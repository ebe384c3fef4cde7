// One connection of a sandbox from its first line to its end: which way it came, what may pass on it, and the verdict that is told.
// Invariant: a connection that was not judged reaches nothing, and every one that was judged is told once.

import type { LeafMint } from "./certificate.ts";
import { looksLikeTls, readClientHello } from "./client-hello.ts";
import type { Grant } from "./compile.ts";
import { Connection, type Upstream } from "./connection.ts";
import { MAX_ENTRY_BYTES, parseEntry } from "./entry.ts";
import type { Gate } from "./gate.ts";
import type { RequestHead } from "./head.ts";
import { helloGuard } from "./hello-guard.ts";
import { Host } from "./host.ts";
import { tlsInside } from "./inspect.ts";
import { Intake, send } from "./intake.ts";
import { TOLD_CONNECTIONS } from "./limits.ts";
import { relay } from "./relay.ts";
import { connectTarget } from "./request-plan.ts";
import { readRequestHead, Requests } from "./requests.ts";
import { type Carried, type Passage, passageTo, type Target } from "./rules.ts";
import { answerOf, Stop } from "./stop.ts";
import type { Socket } from "node:net";

export interface CarryParts {
  readonly mint: LeafMint;
  readonly upstreamCa: readonly string[];
}

const LF = 10;
const MAX_NAME_LINE = 256;
const BUSY_MS = 1_000;
/** How long a client that may speak second is waited for where its first byte decides. */
const SNIFF_MS = 300;
const ESTABLISHED = Buffer.from("HTTP/1.1 200 Connection Established\r\n\r\n");

/** Never throws. Resolves when the connection is over. */
export async function carryConnection(gate: Gate, socket: Socket, parts: CarryParts): Promise<void> {
  if (gate.flows.size >= gate.limits.connections + TOLD_CONNECTIONS) {
    socket.on("error", () => socket.destroy()).destroy();
    gate.counters.limited += 1;
    return;
  }
  const connection = new Connection(gate, socket);
  try {
    await new Carrier(connection, parts).enter();
  } catch {
    // A socket that ended under us; what is a verdict was told where it fell.
    connection.cut();
  } finally {
    connection.close();
  }
}

class Carrier {
  readonly #connection: Connection;
  readonly #parts: CarryParts;

  constructor(connection: Connection, parts: CarryParts) {
    this.#connection = connection;
    this.#parts = parts;
  }

  async enter(): Promise<void> {
    const connection = this.#connection;
    const line = await readLine(connection.intake, MAX_ENTRY_BYTES);
    const entry = line === undefined ? undefined : parseEntry(line);
    if (entry === undefined) return connection.cut();
    connection.way = entry.way;
    connection.process = entry.process;
    const isBusy = connection.gate.flows.size > connection.gate.limits.connections;
    if ("target" in entry) return await this.#direct(entry.target, isBusy);
    if (entry.way === "proxy") return await this.#proxy(isBusy);
    await (isBusy ? connection.cut() : this.#resolve());
  }

  /** `NAME` lines, each answered in its turn: by `no`, or by `yes` and the ports at which the guest is to listen for it. */
  async #resolve(): Promise<void> {
    const { intake, gate } = this.#connection;
    for (;;) {
      this.#connection.within(gate.limits.idleMs);
      const line = await readLine(intake, MAX_NAME_LINE);
      if (line === undefined) return;
      const host = Host.parse(line);
      const isKnown = host !== undefined && host.address === undefined && (await gate.knows(host));
      if (!isKnown)
        this.#connection.tell({
          outcome: "refused",
          reason: host === undefined ? "malformed" : "no-rule",
          ...(host === undefined ? {} : { host: host.text }),
        });
      if (!(await send(intake.stream, Buffer.from(isKnown ? `${["yes", ...gate.portsOf(host)].join(" ")}\n` : "no\n")))) return;
    }
  }

  async #proxy(isBusy: boolean): Promise<void> {
    const connection = this.#connection;
    let head: RequestHead | undefined;
    let target: Target | undefined;
    try {
      head = await readRequestHead(connection.intake);
      if (head === undefined) return;
      if (isBusy) throw new Stop("rate", undefined, BUSY_MS);
      if (head.method === "CONNECT") target = connectTarget(head);
    } catch (error) {
      return await this.#refuse(error, true);
    }
    if (target === undefined) {
      const options = { connection, inside: connection.intake, door: { kind: "proxy" as const }, upstreamCa: this.#parts.upstreamCa };
      return await new Requests(options).serve(head);
    }
    await this.#to(target, true);
  }

  async #direct(target: Target, isBusy: boolean): Promise<void> {
    if (isBusy) return await this.#refuse(new Stop("rate", target, BUSY_MS), false);
    await this.#to(target, false);
  }

  /** A connection to one target: judged, dialled, then looked at as far as its rules want it. */
  async #to(target: Target, isProxy: boolean): Promise<void> {
    const connection = this.#connection;
    const { gate } = connection;
    let way: { passage: Passage; upstream: Upstream; grants: readonly Grant[] | undefined };
    try {
      const passage = passageTo(gate.rules, target);
      if (typeof passage === "string") throw new Stop(passage, target);
      const grants = passage.hasSecrets ? undefined : this.#admitted(passage.raw ?? passage.tunnel, target);
      connection.carriedWhile(() => typeof passageTo(gate.rules, target) !== "string");
      way = { passage, upstream: await connection.dial(target), grants };
      if (isProxy) await send(connection.socket, ESTABLISHED);
    } catch (error) {
      return await this.#refuse(error, isProxy);
    }
    try {
      await this.#pass(way, target);
    } catch (error) {
      await this.#refuse(error, false, way);
    }
  }

  #admitted(carried: Carried | undefined, target: Target): readonly Grant[] | undefined {
    if (carried === undefined) return undefined;
    const grants = this.#connection.gate.admit(carried);
    if (typeof grants === "number") throw new Stop("rate", target, grants);
    return grants;
  }

  async #pass(way: { passage: Passage; upstream: Upstream; grants: readonly Grant[] | undefined }, target: Target): Promise<void> {
    const { passage, upstream } = way;
    const connection = this.#connection;
    const { intake, gate } = connection;
    if (passage.raw !== undefined && !passage.hasSecrets) return await this.#unread(way, "raw");
    connection.within(gate.limits.headMs);
    if (intake.bytes.length === 0) {
      const first = passage.raw === undefined ? await intake.more() : await soon(intake.more(), SNIFF_MS);
      if (!first && passage.raw === undefined) return connection.tell({ outcome: "allowed", ...this.#facts(way) });
    }
    if (!looksLikeTls(intake.bytes)) {
      if (passage.raw !== undefined) return await this.#unread(way, "raw");
      if (!passage.http) throw new Stop("tls", target);
      const options = {
        connection,
        inside: intake,
        door: { kind: "fixed" as const, target, tls: false },
        opened: upstream,
        upstreamCa: [],
      };
      return await new Requests(options).serve();
    }
    const host = await this.#readHello();
    if (host?.text !== target.host.text) throw new Stop(host === undefined ? "tls" : "sni", target);
    if (passage.tunnel !== undefined && !passage.hasSecrets) return await this.#unread(way, "tunnel");
    await this.#inspect(host, target, upstream);
  }

  /** The one name of the hello that comes. Throws `Stop` with `sni` for none or several. */
  async #readHello(): Promise<Host | undefined> {
    const { intake } = this.#connection;
    for (;;) {
      const hello = readClientHello(intake.bytes);
      if (hello === "nameless") throw new Stop("sni");
      if (hello === "malformed") return undefined;
      if (hello !== "more") return hello.host;
      if (!(await intake.more())) return undefined;
    }
  }

  async #unread(way: { upstream: Upstream; grants: readonly Grant[] | undefined }, kind: "raw" | "tunnel"): Promise<void> {
    const connection = this.#connection;
    const { target, socket } = way.upstream;
    const { gate } = connection;
    connection.carriedWhile(() => {
      const passage = passageTo(gate.rules, target);
      return typeof passage !== "string" && !passage.hasSecrets && passage[kind] !== undefined;
    });
    connection.recheck();
    connection.within(gate.limits.idleMs);
    const first = connection.intake.release();
    if (first.length > 0) {
      connection.moved("sent", first.length);
      socket.write(first);
    }
    await relay(connection.socket, socket, {
      moved: (direction, bytes) => connection.moved(direction, bytes),
      ...(kind === "tunnel" ? { guard: helloGuard(target.host.text) } : {}),
    });
    const { ended } = connection;
    const stop = ended === undefined ? undefined : new Stop(ended);
    connection.tell({ outcome: stop?.outcome ?? "allowed", ...(stop === undefined ? {} : { reason: stop.reason }), ...this.#facts(way) });
  }

  async #inspect(host: Host, target: Target, opened: Upstream): Promise<void> {
    const connection = this.#connection;
    connection.socket.unshift(connection.intake.release());
    const inner = await tlsInside(connection, host, this.#parts.mint);
    const door = { kind: "fixed" as const, target, tls: true };
    await new Requests({ connection, inside: new Intake(inner), door, opened, upstreamCa: this.#parts.upstreamCa }).serve();
    // What was written last is still on its way through TLS.
    connection.within(connection.gate.limits.headMs);
    await new Promise<void>((resolve) => {
      if (inner.writableFinished || inner.destroyed) return resolve();
      inner.once("finish", resolve).once("close", resolve).end();
    });
  }

  #facts({ upstream: { target, address }, grants }: { readonly upstream: Upstream; readonly grants: readonly Grant[] | undefined }): {
    readonly host: string;
    readonly port: number;
    readonly address: string;
    readonly rule?: number | "open";
  } {
    const rule = grants?.[0]?.rule;
    return { host: target.host.text, port: target.port, address: address.text, ...(rule === undefined ? {} : { rule }) };
  }

  /** Tells the verdict; through the proxy the program is told too, else the connection breaks. */
  async #refuse(
    error: unknown,
    isAnswered: boolean,
    way?: { readonly upstream: Upstream; readonly grants: readonly Grant[] | undefined },
  ): Promise<void> {
    const connection = this.#connection;
    const { ended } = connection;
    if (!(error instanceof Stop) && ended === undefined) throw error;
    const stop = error instanceof Stop && ended === undefined ? error : new Stop(ended ?? "malformed");
    const { target } = stop;
    const facts = way === undefined ? (target === undefined ? {} : { host: target.host.text, port: target.port }) : this.#facts(way);
    connection.tell({ outcome: stop.outcome, reason: stop.reason, ...facts });
    if (isAnswered && ended === undefined) {
      await send(connection.socket, answerOf(stop));
      connection.socket.end();
    } else connection.cut();
  }
}

async function readLine(intake: Intake, max: number): Promise<string | undefined> {
  for (;;) {
    const end = intake.bytes.indexOf(LF);
    if (end >= max || (end < 0 && intake.bytes.length >= max)) return undefined;
    if (end >= 0)
      return intake
        .take(end + 1)
        .toString("latin1")
        .slice(0, -1);
    if (!(await intake.more())) return undefined;
  }
}

/** What comes in time, else false. */
async function soon(coming: Promise<boolean>, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), ms);
  const first = await Promise.race([coming, promise]);
  clearTimeout(timer);
  return first;
}
