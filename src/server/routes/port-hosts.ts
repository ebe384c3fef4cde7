// Ports of sandboxes on hosts of their own, `{port}-{id}.{domain}`: for browsers. A port that is not public opens to a key in a header, or
// to a visit: a cookie of that host alone, which a one-time ticket sets. Invariant: no host below the domain ever answers as the API; a
// visit counts for that host's own pages and for a person who goes there, not for what other sandboxes' pages ask.

import type { FastifyReply, FastifyRequest } from "fastify";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { CorralError } from "../../api/errors.ts";
import type { Port, Ports } from "../../service/ports.ts";
import type { Service } from "../../service/service.ts";
import type { Token } from "../../store/tokens.ts";
import { SECURE_VISIT_COOKIE, VISIT_COOKIE, visitOf } from "../proxy/headers.ts";
import type { PortProxy } from "../proxy/port-proxy.ts";
import type { RateLimits } from "../rate-limits.ts";
import { takeBodiesAsTheyCome, type ZodApp } from "../shapes.ts";

/** Where requests for such hosts are led; as a path of the API it is one that nobody has. */
const ROUTE = "/.ports";
/** On every such host, ours and not the sandbox's. */
const OURS = "/.corral/";
export const VISIT_PATH = `${OURS}visit`;
const HOST = /^(\d{1,5})-(sb[a-z0-9]{20})$/;
const MAX_PORT = 65_535;

export interface PortHostParts {
  readonly service: Service;
  readonly proxy: PortProxy;
  readonly limits: RateLimits;
  readonly origin: string;
}

/** Leads requests for hosts below the domain away from the API. For `rewriteUrl` of Fastify. */
export function leadPortHosts(origin: string | null): (request: IncomingMessage) => string {
  const domain = origin === null ? undefined : domainOf(origin);
  return ({ url = "/", headers }) => (domain !== undefined && below(headers.host, domain) !== undefined ? ROUTE : url);
}

/** Whether a request is one for such a host: then it is not the API's to judge its `Origin`. */
export function isPortHost(request: FastifyRequest): boolean {
  return request.routeOptions.url === ROUTE;
}

export function portHostRoutes(app: ZodApp, { service, proxy, limits, origin }: PortHostParts): void {
  const domain = domainOf(origin);
  const isSecure = origin.startsWith("https:");
  takeBodiesAsTheyCome(app);
  app.route({
    method: app.supportedMethods.filter((method) => method !== "TRACE"),
    url: ROUTE,
    schema: { hide: true },
    handler: async (request, reply) => {
      const to = portOf(below(request.headers.host, domain));
      if (to === undefined) {
        await limits.countStranger(request.ip);
        throw new CorralError("route_not_found", "there is no such host; a port of a sandbox is {port}-{id} below the domain");
      }
      const path = request.originalUrl;
      if (!path.startsWith("/")) throw new CorralError("request_invalid", "the address of the request is no path");
      if (path.startsWith(OURS)) {
        await limits.countStranger(request.ip);
        return visit({ ports: service.ports, to, isSecure }, request, reply);
      }
      const token = await admitted({ service, limits, isSecure }, to, request, reply);
      await proxy.answer(request, reply, { form: "host", token, to, path, prefix: "", scheme: isSecure ? "https" : "http" });
      return reply;
    },
  });
}

interface Visited {
  readonly ports: Ports;
  readonly to: Port;
  readonly isSecure: boolean;
}

/** Sets the cookie of a visit and leads on; `to` is a path of the same host. */
function visit({ ports, to, isSecure }: Visited, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const url = new URL(request.originalUrl, "http://host");
  if (url.pathname !== VISIT_PATH || request.method !== "GET") throw new CorralError("route_not_found", `there is no ${url.pathname} here`);
  const { secret, expiresInMs } = ports.visit(url.searchParams.get("ticket") ?? "", to);
  const wanted = url.searchParams.get("to") ?? "/";
  const cookie = [
    `${isSecure ? SECURE_VISIT_COOKIE : VISIT_COOKIE}=${secret}`,
    "Path=/",
    "HttpOnly",
    "SameSite=Lax",
    `Max-Age=${Math.floor(expiresInMs / 1000)}`,
    ...(isSecure ? ["Secure"] : []),
  ];
  return (
    reply
      .code(303)
      .header("set-cookie", cookie.join("; "))
      .header("cache-control", "no-store")
      .header("referrer-policy", "no-referrer")
      // SAFETY: two slashes, or a backslash, would lead to another host.
      .header("location", /^\/(?![/\\])[\x21-\x7e]*$/.test(wanted) ? wanted : "/")
      .send()
  );
}

interface Admission {
  readonly service: Service;
  readonly limits: RateLimits;
  readonly isSecure: boolean;
}

/** Whom the request acts for. Throws `unauthorized`, `rate_limited`. */
async function admitted(
  { service: { keys, ports }, limits, isSecure }: Admission,
  to: Port,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Token> {
  const { headers } = request;
  const key = headers["corral-key"];
  const secret = visitCounts(request) ? visitOf(headers.cookie, isSecure) : undefined;
  const token =
    (await ports.stranger(to)) ??
    (typeof key === "string" && !(await limits.isSpent(request.ip)) ? await keys.find(key) : undefined) ??
    (secret === undefined ? undefined : await ports.visitor(secret, to));
  if (token === undefined) {
    await limits.countStranger(request.ip);
    throw new CorralError(
      "unauthorized",
      "this port is not public: ask for a ticket (POST /v1/sandboxes/{id}/tickets) and open its url, or send a key as Corral-Key",
    );
  }
  if (token.id === "") return token;
  await limits.countToken(token);
  const held = keys.hold(token, () => request.raw.socket.destroy());
  reply.raw.once("close", () => held[Symbol.dispose]());
  return token;
}

/**
 * SAFETY: hosts below one domain are one site to a browser, which sends the cookie along with whatever a page of another sandbox asks of this
 * one. So it counts for this host's own pages, and for a person who goes there.
 */
function visitCounts({ method, headers }: { readonly method: string; readonly headers: IncomingHttpHeaders }): boolean {
  const { origin, host, "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": destination } = headers;
  if (origin !== undefined && origin.replace(/^https?:\/\//, "") !== host) return false;
  if (site === undefined || site === "same-origin" || site === "none") return true;
  return mode === "navigate" && destination === "document" && (method === "GET" || method === "HEAD");
}

function domainOf(origin: string): string {
  return new URL(origin).hostname;
}

/** What stands before the domain; `undefined` when the host is not below it. */
function below(host: string | undefined, domain: string): string | undefined {
  const name = host?.replace(/:\d+$/, "").replace(/\.$/, "").toLowerCase();
  return name?.endsWith(`.${domain}`) === true ? name.slice(0, -domain.length - 1) : undefined;
}

function portOf(label: string | undefined): Port | undefined {
  const [, number, sandboxId] = HOST.exec(label ?? "") ?? [];
  const port = Number(number);
  return sandboxId === undefined || port < 1 || port > MAX_PORT ? undefined : { sandboxId, port };
}
