// What one request asks for: where it goes, what of it is judged, and the bytes that are sent on. Pure.
// Invariant: what is judged is what is sent, byte for byte; the target of a request has one name in every place where it stands.

import { type Header, headerValue, headBytes, listed, type RequestHead } from "./head.ts";
import { Host } from "./host.ts";
import type { RequestFacts, Target } from "./rules.ts";
import { Stop } from "./stop.ts";

/** How the request came: through the proxy variables, or on a connection that has its target already. */
export type Door = { readonly kind: "proxy" } | { readonly kind: "fixed"; readonly target: Target; readonly tls: boolean };

export interface Plan {
  readonly target: Target;
  readonly facts: RequestFacts;
  /** Path and query, as they are sent. */
  readonly origin: string;
  /** A WebSocket is asked for. */
  readonly isUpgrade: boolean;
}

const HTTP_PORT = 80;
const HTTPS_PORT = 443;
const ABSOLUTE = /^http:\/\/([^/?#]+)(\/[^#]*)?$/i;
const ORIGIN = /^\/[^#]*$/;
/** Headers of one hop. */
const HOP = new Set(
  "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade http2-settings content-length host".split(
    " ",
  ),
);
/** SAFETY: what one hop may not take away from the next. */
const KEPT = new Set(["content-length", "transfer-encoding", "host", "authorization", "cookie", "expect"]);
const OVERRIDES = ["x-http-method-override", "x-http-method", "x-method-override"];

/** Throws `Stop`. */
export function planOf(head: RequestHead, door: Door): Plan {
  const named = Host.parseAuthority(headerValue(head.headers, "host") ?? "", portOf(door));
  const { target, origin } = door.kind === "proxy" ? absolute(head) : fixed(head, door.target);
  if (named === undefined) throw new Stop("malformed", target);
  if (named.host.text !== target.host.text || named.port !== target.port)
    throw new Stop(door.kind === "proxy" ? "malformed" : "sni", target);
  // SAFETY: mirrors what it was sent, secrets and all.
  if (head.method === "TRACE" || head.method === "TRACK") throw new Stop("request", target);
  if (head.method === "CONNECT" || head.minor !== 1) throw new Stop("malformed", target);
  const expected = listed(head.headers, "expect");
  if (expected.some((item) => item !== "100-continue")) throw new Stop("malformed", target);
  const tokens = listed(head.headers, "connection");
  if (tokens.some((token) => KEPT.has(token))) throw new Stop("malformed", target);
  const [path = ""] = origin.split("?", 1);
  const hasOverride = head.headers.some(({ lower }) => OVERRIDES.includes(lower));
  const facts = { tls: door.kind === "fixed" && door.tls, method: head.method, path, hasOverride };
  return { target, facts, origin, isUpgrade: isWebSocket(head, target, tokens) };
}

/** `host:port` of CONNECT; its Host must say the same where it has one. */
export function connectTarget(head: RequestHead): Target {
  const target = /:\d+$/.test(head.target) ? Host.parseAuthority(head.target, HTTPS_PORT) : undefined;
  const named = Host.parseAuthority(headerValue(head.headers, "host") ?? head.target, target?.port ?? HTTPS_PORT);
  if (target === undefined || named === undefined || head.framing.kind !== "none") throw new Stop("malformed", target);
  if (named.host.text !== target.host.text || named.port !== target.port) throw new Stop("malformed", target);
  return target;
}

function portOf(door: Door): number {
  return door.kind === "fixed" && door.tls ? HTTPS_PORT : HTTP_PORT;
}

function absolute({ target: text }: RequestHead): { readonly target: Target; readonly origin: string } {
  const [, authority = "", rest = "/"] = ABSOLUTE.exec(text) ?? [];
  const target = Host.parseAuthority(authority, HTTP_PORT);
  if (target === undefined) throw new Stop("malformed");
  return { target, origin: rest };
}

function fixed({ target: text }: RequestHead, target: Target): { readonly target: Target; readonly origin: string } {
  if (!ORIGIN.test(text)) throw new Stop("malformed", target);
  return { target, origin: text };
}

/** SAFETY: to no other protocol: what follows would not be judged. */
function isWebSocket({ headers, method, framing }: RequestHead, target: Target, tokens: readonly string[]): boolean {
  const wanted = listed(headers, "upgrade");
  if (wanted.length === 0) return false;
  const fits =
    wanted.length === 1 && wanted[0] === "websocket" && method === "GET" && tokens.includes("upgrade") && framing.kind === "none";
  if (!fits) throw new Stop("malformed", target);
  return true;
}

/** Headers of the next hop, without Host and framing. */
export function forwarded(headers: readonly Header[]): Header[] {
  const tokens = new Set(listed(headers, "connection"));
  return headers.filter(({ lower }) => !HOP.has(lower) && !tokens.has(lower));
}

/** The head that goes out. `headers`: of the next hop, secrets put in. */
export function outgoingHead(head: RequestHead, plan: Plan, headers: readonly Header[]): Buffer {
  const { target, facts, origin, isUpgrade } = plan;
  const isDefault = target.port === (facts.tls ? HTTPS_PORT : HTTP_PORT);
  const host = { name: "Host", value: isDefault ? target.host.inUrl : `${target.host.inUrl}:${target.port}` };
  const upgrade = isUpgrade
    ? [
        { name: "Connection", value: "Upgrade" },
        { name: "Upgrade", value: "websocket" },
      ]
    : [];
  const { framing } = head;
  const length = framing.kind === "length" ? [{ name: "Content-Length", value: String(framing.bytes) }] : [];
  const coding = framing.kind === "chunked" ? [{ name: "Transfer-Encoding", value: "chunked" }] : [];
  return headBytes(`${head.method} ${origin} HTTP/1.1`, [host, ...headers, ...upgrade, ...length, ...coding]);
}
