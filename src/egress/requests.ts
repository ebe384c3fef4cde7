// Requests on one connection, one after the other: read, judged, given their secrets, sent on, answered. Follows no redirect.
// Invariant: nothing of a request leaves before its head was judged whole; after an error the connection carries no further request.

import { tlsUpstream } from "./inspect.ts";
import { GoneError, passAnswer } from "./answers.ts";
import { BodyError, BodyReader, framed, LAST_CHUNK } from "./body.ts";
import type { Grant } from "./compile.ts";
import type { Connection, Upstream } from "./connection.ts";
import { type Header, headEnd, parseRequestHead, type RequestHead } from "./head.ts";
import { Intake, send } from "./intake.ts";
import { relay } from "./relay.ts";
import { type Door, forwarded, outgoingHead, type Plan, planOf } from "./request-plan.ts";
import { carrying } from "./rules.ts";
import { Masker, type Needle, withSecrets } from "./secrets.ts";
import { answerOf, Stop } from "./stop.ts";

/** An upstream that speaks HTTP now. */
interface Peer {
  readonly upstream: Upstream;
  readonly intake: Intake;
}

interface Admitted {
  readonly head: RequestHead;
  readonly plan: Plan;
  readonly grants: readonly Grant[];
  readonly headers: readonly Header[];
  readonly needles: readonly Needle[];
}

export interface RequestOptions {
  readonly connection: Connection;
  /** Where the sandbox's bytes come from and answers go. */
  readonly inside: Intake;
  readonly door: Door;
  /** A connection to the door's target that is open already. */
  readonly opened?: Upstream;
  /** Certificates of authorities that upstreams may have, beside the usual ones. */
  readonly upstreamCa: readonly string[];
}

/** Of a request; `undefined` when the sandbox sent nothing more. Throws `Stop`. */
export async function readRequestHead(inside: Intake): Promise<RequestHead | undefined> {
  for (;;) {
    const end = headEnd(inside.bytes);
    const head = end > 0 ? parseRequestHead(inside.take(end)) : undefined;
    if (end < 0 || (end > 0 && head === undefined)) throw new Stop("malformed");
    if (head !== undefined) return head;
    if (await inside.more()) continue;
    if (inside.bytes.length === 0) return undefined;
    throw new Stop("malformed");
  }
}

export class Requests {
  readonly #options: RequestOptions;
  readonly #connection: Connection;
  #opened: Upstream | undefined;
  #peer: Peer | undefined;

  constructor(options: RequestOptions) {
    this.#options = options;
    this.#connection = options.connection;
    this.#opened = options.opened;
  }

  /** Serves `first`, then what follows, until one side is done. */
  async serve(first?: RequestHead): Promise<void> {
    const { inside, connection } = { inside: this.#options.inside, connection: this.#connection };
    for (let head = first; ; head = undefined) {
      connection.within(this.#peer === undefined ? connection.gate.limits.headMs : connection.gate.limits.idleMs);
      const goesOn = await this.#one(head);
      if (!goesOn) break;
    }
    if (!inside.stream.destroyed) inside.stream.end();
  }

  /** Whether another request may follow. */
  async #one(first: RequestHead | undefined): Promise<boolean> {
    const connection = this.#connection;
    let plan: Plan | undefined;
    let admitted: Admitted | undefined;
    try {
      const head = first ?? (await readRequestHead(this.#options.inside));
      if (head === undefined) return false;
      plan = planOf(head, this.#options.door);
      admitted = this.#admit(head, plan);
      const { facts, target } = plan;
      connection.carriedWhile(() => typeof carrying(connection.gate.rules, target, facts) !== "string");
      const goesOn = await this.#carry(admitted);
      this.#tell(plan, admitted, undefined);
      return goesOn;
    } catch (error) {
      if (error instanceof GoneError && plan !== undefined && connection.ended === undefined) {
        this.#tell(plan, admitted, undefined);
        connection.cut();
        return false;
      }
      const stop = this.#stopOf(error);
      this.#tell(plan, admitted, stop);
      if (connection.ended === undefined) await send(this.#options.inside.stream, answerOf(stop));
      return false;
    }
  }

  #stopOf(error: unknown): Stop {
    const { ended } = this.#connection;
    if (ended !== undefined) return new Stop(ended);
    if (error instanceof Stop) return error;
    if (error instanceof BodyError) return new Stop("malformed");
    throw error;
  }

  #tell(plan: Plan | undefined, admitted: Admitted | undefined, stop: Stop | undefined): void {
    const target = plan?.target ?? stop?.target;
    this.#connection.tell({
      outcome: stop === undefined ? "allowed" : stop.outcome,
      ...(stop === undefined ? {} : { reason: stop.reason }),
      ...(target === undefined ? {} : { host: target.host.text, port: target.port }),
      ...(plan === undefined ? {} : { method: plan.facts.method, path: plan.facts.path }),
      ...(admitted === undefined ? {} : { rule: admitted.grants[0]?.rule ?? "open" }),
      ...(this.#peer === undefined || admitted === undefined ? {} : { address: this.#peer.upstream.address.text }),
    });
  }

  /** Judges a request and puts its secrets in. Throws `Stop`. */
  #admit(head: RequestHead, plan: Plan): Admitted {
    const { gate } = this.#connection;
    const { target, facts } = plan;
    const carried = carrying(gate.rules, target, facts);
    if (typeof carried === "string") throw new Stop(carried, target);
    const grants = gate.admit(carried);
    if (typeof grants === "number") throw new Stop("rate", target, grants);
    const headers = forwarded(head.headers);
    // SAFETY: nobody learns from the wire which placeholder a secret has, and no secret goes without TLS.
    if (!facts.tls && [plan.origin, ...headers.map(({ value }) => value)].some((text) => gate.holdsPlaceholder(text)))
      throw new Stop("secret", target);
    const { headers: filled, sent } = withSecrets(headers, facts.tls ? gate.bound(grants) : []);
    const needles = facts.tls ? [...gate.needles(target.host), ...sent] : [];
    return { head, plan, grants, headers: needles.length > 0 ? identityOnly(filled) : filled, needles };
  }

  async #carry(admitted: Admitted, isSecondTry = false): Promise<boolean> {
    const { head, plan, needles } = admitted;
    const { connection, inside } = this.#options;
    const { isFresh, peer } = await this.#peerFor(plan);
    connection.within(connection.gate.limits.answerMs);
    const headBytes = outgoingHead(head, plan, admitted.headers);
    await connection.paced("sent", headBytes.length);
    await send(peer.intake.stream, headBytes);
    const body: { readonly reader: BodyReader; failed?: Stop } = { reader: new BodyReader(head.framing, "request") };
    const sending = this.#sendBody(body.reader, head, peer).catch((error: unknown) => {
      body.failed = this.#stopOf(error);
      peer.intake.stream.destroy();
    });
    const route = {
      connection,
      from: peer.intake,
      to: inside,
      target: plan.target,
      method: head.method,
      isUpgrade: plan.isUpgrade,
      needles,
    };
    const answered = await passAnswer(route).catch((error: unknown) => {
      throw body.failed ?? error;
    });
    if (body.failed !== undefined) throw body.failed;
    if (answered === undefined) {
      if (isFresh || isSecondTry || head.framing.kind !== "none") throw new Stop("answer", plan.target);
      this.#drop();
      return await this.#carry(admitted, true);
    }
    if (answered.status === 101) return await this.#switched(peer, needles);
    const isSent = body.reader.done;
    if (isSent) await sending;
    if (!answered.canGoOn || !isSent) this.#drop();
    return isSent && !wantsClose(head);
  }

  async #sendBody(reader: BodyReader, head: RequestHead, peer: Peer): Promise<void> {
    const { connection, inside } = this.#options;
    const put = async (bytes: Buffer): Promise<void> => {
      await connection.paced("sent", bytes.length);
      await send(peer.intake.stream, bytes);
    };
    while (!reader.done) {
      const { content, taken } = reader.take(inside.bytes);
      inside.take(taken);
      for (const piece of content) await put(framed(piece, head.framing.kind));
      if (reader.done || (taken > 0 && inside.bytes.length > 0)) continue;
      if (peer.intake.stream.destroyed) return;
      if (!(await inside.more())) throw new BodyError("cut off");
    }
    if (head.framing.kind === "chunked") await put(LAST_CHUNK);
    inside.watch(() => connection.hurry());
  }

  /** The connection of the request before, when it goes to the same place; else a new one. */
  async #peerFor({ target, facts }: Plan): Promise<{ readonly peer: Peer; readonly isFresh: boolean }> {
    const known = this.#peer;
    const isSame = known?.upstream.target.host.text === target.host.text && known.upstream.target.port === target.port;
    if (known !== undefined && isSame && !known.intake.isOver && known.intake.bytes.length === 0) return { peer: known, isFresh: false };
    this.#drop();
    const opened = this.#opened;
    this.#opened = undefined;
    const upstream = opened !== undefined && !opened.socket.destroyed ? opened : await this.#connection.dial(target);
    const stream = facts.tls ? await tlsUpstream(this.#connection, upstream, this.#options.upstreamCa) : upstream.socket;
    this.#peer = { upstream, intake: new Intake(stream) };
    return { peer: this.#peer, isFresh: true };
  }

  #drop(): void {
    this.#peer?.intake.stream.destroy();
    this.#peer = undefined;
    if (this.#opened === undefined) this.#connection.detach();
  }

  /** A WebSocket: both ways as they come, but no value of a secret comes back. */
  async #switched(peer: Peer, needles: readonly Needle[]): Promise<boolean> {
    const { connection, inside } = this.#options;
    const masker = new Masker(needles);
    const inner = inside.stream;
    const fromInside = inside.release();
    const fromOutside = peer.intake.release();
    if (fromInside.length > 0) peer.intake.stream.write(fromInside);
    const answerGuard = (bytes: Buffer): Buffer | undefined => {
      masker.take(bytes);
      return masker.found > 0 ? undefined : bytes;
    };
    const begun = answerGuard(fromOutside);
    if (begun === undefined) return false;
    if (begun.length > 0) inner.write(begun);
    await relay(inner, peer.intake.stream, {
      moved: (direction, bytes) => connection.moved(direction, bytes),
      ...(needles.length > 0 ? { answerGuard } : {}),
    });
    return false;
  }
}

/** SAFETY: what is compressed cannot be looked through. */
function identityOnly(headers: readonly Header[]): Header[] {
  const kept = headers.filter(({ lower }) => lower !== "accept-encoding" && lower !== "sec-websocket-extensions");
  return [...kept, { name: "Accept-Encoding", lower: "accept-encoding", value: "identity" }];
}

function wantsClose({ headers }: RequestHead): boolean {
  return headers.some(
    ({ lower, value }) => (lower === "connection" || lower === "proxy-connection") && value.toLowerCase().includes("close"),
  );
}
