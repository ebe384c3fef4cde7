// An answer on its way in: its head read strictly, its framing made anew, values of secrets turned back. Judges nothing.
// Invariant: what the sandbox gets has one framing, and ends where the answer ended or breaks off where it broke off.

import { BodyError, BodyReader, framed, LAST_CHUNK } from "./body.ts";
import type { Connection } from "./connection.ts";
import { answerFraming, type AnswerHead, type Framing, headBytes, headEnd, headerValue, listed, parseAnswerHead } from "./head.ts";
import { type Intake, send } from "./intake.ts";
import { forwarded } from "./request-plan.ts";
import type { Target } from "./rules.ts";
import { Masker, maskText, type Needle } from "./secrets.ts";
import { Stop } from "./stop.ts";

/** The sandbox took no more of the answer. */
export class GoneError extends Error {
  override readonly name = "GoneError";
}

export interface AnswerRoute {
  readonly connection: Connection;
  readonly from: Intake;
  readonly to: Intake;
  readonly target: Target;
  readonly method: string;
  readonly isUpgrade: boolean;
  readonly needles: readonly Needle[];
}

export interface Answered {
  readonly status: number;
  /** The other side can be asked again on the same connection. */
  readonly canGoOn: boolean;
}

const MAX_INTERIM = 16;
const SWITCHING = 101;

/** Throws `Stop` with `answer` while nothing went in yet; afterwards both ends are cut. `undefined`: the connection closed without a byte. */
export async function passAnswer(route: AnswerRoute): Promise<Answered | undefined> {
  for (let interim = 0; interim <= MAX_INTERIM; interim++) {
    const head = await readAnswerHead(route, interim === 0);
    if (head === undefined) return undefined;
    const isSwitch = head.status === SWITCHING && route.isUpgrade;
    if (head.status < 200 && !isSwitch) {
      if (head.status === SWITCHING) break;
      await put(route, headBytes(`HTTP/1.1 ${head.status} ${maskText(head.reason, route.needles)}`, masked(route, head)));
      continue;
    }
    return isSwitch ? await passSwitch(route, head) : await passBody(route, head);
  }
  throw new Stop("answer", route.target);
}

async function readAnswerHead({ from, target }: AnswerRoute, isFirst: boolean): Promise<AnswerHead | undefined> {
  for (;;) {
    const end = headEnd(from.bytes);
    if (end < 0) throw new Stop("answer", target);
    if (end > 0) {
      const head = parseAnswerHead(from.take(end));
      if (head === undefined) throw new Stop("answer", target);
      return head;
    }
    if (await from.more()) continue;
    if (isFirst && from.bytes.length === 0) return undefined;
    throw new Stop("answer", target);
  }
}

function masked({ needles }: AnswerRoute, head: AnswerHead): { readonly name: string; readonly value: string }[] {
  return forwarded(head.headers).map(({ name, value }) => ({ name: maskText(name, needles), value: maskText(value, needles) }));
}

async function put({ connection, to }: AnswerRoute, bytes: Buffer): Promise<void> {
  await connection.paced("received", bytes.length);
  if (!(await send(to.stream, bytes))) throw new GoneError();
}

async function passSwitch(route: AnswerRoute, head: AnswerHead): Promise<Answered> {
  const upgrade = [
    { name: "Connection", value: "Upgrade" },
    { name: "Upgrade", value: "websocket" },
  ];
  await put(route, headBytes(`HTTP/1.1 101 ${maskText(head.reason, route.needles)}`, [...masked(route, head), ...upgrade]));
  return { status: SWITCHING, canGoOn: false };
}

async function passBody(route: AnswerRoute, head: AnswerHead): Promise<Answered> {
  const { connection, from, needles } = route;
  const framing = answerFraming(head, route.method);
  if (framing === undefined) throw new Stop("answer", route.target);
  const coding = headerValue(head.headers, "content-encoding")?.toLowerCase() ?? "identity";
  const masker = needles.length > 0 && coding === "identity" && framing.kind !== "none" ? new Masker(needles) : undefined;
  const kind: Framing["kind"] = framing.kind === "close" || (masker !== undefined && framing.kind === "length") ? "chunked" : framing.kind;
  await put(
    route,
    headBytes(`HTTP/1.1 ${head.status} ${maskText(head.reason, needles)}`, [
      ...masked(route, head),
      ...framingHeaders(head, framing, kind),
    ]),
  );
  const reader = new BodyReader(framing, "answer");
  try {
    while (!reader.done) {
      const { content, taken } = reader.take(from.bytes);
      from.take(taken);
      for (const piece of content) {
        const bytes = masker?.take(piece) ?? piece;
        if (bytes.length > 0) await put(route, framed(bytes, kind));
      }
      if (reader.done || (taken > 0 && from.bytes.length > 0)) continue;
      if (!(await from.more())) break;
    }
    if (!reader.done && !reader.endsWithConnection) throw new BodyError("cut off");
    const rest = masker?.end();
    if (rest !== undefined && rest.length > 0) await put(route, framed(rest, kind));
    if (kind === "chunked") await put(route, LAST_CHUNK);
  } catch (error) {
    if (error instanceof GoneError) throw error;
    // Half an answer is out: only its breaking off tells the truth.
    connection.end("answer");
    throw error instanceof Stop ? error : new Stop("answer", route.target);
  }
  return { status: head.status, canGoOn: reader.done && head.minor === 1 && !listed(head.headers, "connection").includes("close") };
}

function framingHeaders(head: AnswerHead, framing: Framing, kind: Framing["kind"]): { readonly name: string; readonly value: string }[] {
  if (kind === "chunked") return [{ name: "Transfer-Encoding", value: "chunked" }];
  const said = headerValue(head.headers, "content-length");
  const isNone = framing.kind === "none" && (head.status === 204 || said === undefined);
  return isNone || said === undefined ? [] : [{ name: "Content-Length", value: said }];
}
