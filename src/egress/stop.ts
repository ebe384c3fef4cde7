// Why a connection or request ends without being carried, and what a program is told. Fixed texts, in which only a canonical host varies.
// Invariant: a refusal, a limit and a fault of the other side look different; none holds a word of a page, a rule or a secret.

import type { NetworkOutcome, NetworkReason } from "../api/network.ts";
import { headBytes } from "./head.ts";
import type { Target } from "./rules.ts";

/** Thrown where a connection goes no further. */
export class Stop extends Error {
  override readonly name = "Stop";
  readonly reason: NetworkReason;
  readonly target: Target | undefined;
  /** Of `rate`: when to come again. */
  readonly retryMs: number;

  constructor(reason: NetworkReason, target?: Target, retryMs = 0) {
    super(reason);
    this.reason = reason;
    this.target = target;
    this.retryMs = retryMs;
  }

  get outcome(): NetworkOutcome {
    return OUTCOMES[this.reason];
  }
}

const OUTCOMES: Readonly<Record<NetworkReason, NetworkOutcome>> = {
  "no-rule": "refused",
  request: "refused",
  ceiling: "refused",
  address: "refused",
  malformed: "refused",
  tls: "refused",
  sni: "refused",
  secret: "refused",
  withdrawn: "refused",
  rate: "limited",
  idle: "limited",
  dns: "failed",
  connect: "failed",
  certificate: "failed",
  answer: "failed",
};

const WHY: Readonly<Partial<Record<NetworkReason, string>>> = {
  "no-rule": "no rule matches. The owner of this sandbox can allow it.",
  request: "no rule matches the method and path. The owner of this sandbox can allow it.",
  ceiling: "the operator of this node does not allow it.",
  address: "its address is not reached from sandboxes.",
  secret: "a secret goes over TLS alone.",
  withdrawn: "the rule that allowed it is gone.",
};

const UPSTREAM: Readonly<Partial<Record<NetworkReason, readonly [status: string, word: string, text: string]>>> = {
  dns: ["502 Bad Gateway", "dns", "the name has no address"],
  connect: ["502 Bad Gateway", "connect", "it does not answer"],
  certificate: ["502 Bad Gateway", "tls", "its certificate does not hold"],
  answer: ["502 Bad Gateway", "answer", "its answer is no HTTP, or was cut off"],
  idle: ["504 Gateway Timeout", "timeout", "it did not answer in time"],
};

/** A whole answer, after which the connection closes. */
export function answerOf(stop: Stop): Buffer {
  const { reason, target } = stop;
  const place = target === undefined ? "this host" : `${target.host.inUrl}:${target.port}`;
  const why = WHY[reason];
  if (why !== undefined) return answer("403 Forbidden", { "Corral-Refused": reason }, `corral: egress to ${place} is not allowed: ${why}`);
  const upstream = UPSTREAM[reason];
  if (upstream !== undefined) {
    const [status, word, text] = upstream;
    return answer(status, { "Corral-Upstream": word }, `corral: ${place} cannot be reached: ${text}.`);
  }
  if (reason === "rate") {
    const seconds = String(Math.max(1, Math.ceil(stop.retryMs / 1000)));
    return answer("429 Too Many Requests", { "Retry-After": seconds }, "corral: this sandbox asks for too much at once; try again later.");
  }
  if (reason === "sni")
    return answer("421 Misdirected Request", { "Corral-Refused": reason }, "corral: the request names another host than its connection.");
  return answer("400 Bad Request", { "Corral-Refused": "malformed" }, "corral: the request is not plain HTTP/1.1 and was not sent on.");
}

function answer(status: string, headers: Readonly<Record<string, string>>, text: string): Buffer {
  const body = Buffer.from(`${text}\n`);
  const all = { "Content-Type": "text/plain; charset=utf-8", "Content-Length": String(body.length), Connection: "close", ...headers };
  const list = Object.entries(all).map(([name, value]) => ({ name, value }));
  return Buffer.concat([headBytes(`HTTP/1.1 ${status}`, list), body]);
}
