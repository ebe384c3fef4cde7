// Which headers pass between a client and a program inside a sandbox, in both directions. Pure.
// Invariant: what belongs to one connection stays there; no key, ticket or visit of ours goes inside; nothing that a sandbox says acts on
// an origin other than its own.

import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";

/** `host`: the port has a host of its own. `path`: it lies below the API's own origin. */
export type PortForm = "host" | "path";

export interface Inward {
  readonly form: PortForm;
  readonly port: number;
  /** Of the client. */
  readonly address: string;
  readonly scheme: "http" | "https";
  /** What was cut off the path. */
  readonly prefix: string;
}

/** RFC 9110, 7.6.1, and what is said to proxies alone. */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];
/** Ours to say, or said to us. */
const NOT_INWARD = [
  "host",
  "expect",
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-forwarded-prefix",
  "corral-key",
];
/** On the API's origin a sandbox sets no cookie, asks for no password, moves no policy. */
const NOT_OUTWARD: Readonly<Record<PortForm, readonly string[]>> = {
  host: ["strict-transport-security", "alt-svc", "public-key-pins"],
  path: [
    "strict-transport-security",
    "alt-svc",
    "public-key-pins",
    "set-cookie",
    "set-cookie2",
    "clear-site-data",
    "service-worker-allowed",
    "www-authenticate",
    "content-security-policy",
    "content-security-policy-report-only",
    "x-content-type-options",
    "x-frame-options",
    "cross-origin-resource-policy",
    "referrer-policy",
    "reporting-endpoints",
    "report-to",
    "nel",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "refresh",
    "link",
    "sourcemap",
    "speculation-rules",
  ],
};
/** A page of a sandbox that a browser shows on the API's origin after all has an origin of its own, no script and no frame around it. */
const PATH_ANSWER: OutgoingHttpHeaders = {
  "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
};

export const VISIT_COOKIE = "corral-visit";
/** Where the browser keeps others from setting it: it takes https. */
export const SECURE_VISIT_COOKIE = `__Host-${VISIT_COOKIE}`;
const OUR_KEY = /^bearer\s+c[kt][a-z0-9]+\s*$/i;

/** For the program inside. */
export function inwardHeaders(request: IncomingMessage, { form, port, address, scheme, prefix }: Inward): OutgoingHttpHeaders {
  const headers = withoutHops(request);
  for (const name of NOT_INWARD) delete headers[name];
  // SAFETY: on the API's origin the key that opened this, and every cookie, is ours.
  if (form === "path") {
    delete headers["authorization"];
    delete headers["cookie"];
  } else {
    if (OUR_KEY.test(request.headers.authorization ?? "")) delete headers["authorization"];
    const cookies = withoutVisit(request.headers.cookie);
    if (cookies === "") delete headers["cookie"];
    else headers["cookie"] = cookies;
  }
  return {
    ...headers,
    ...framing(request),
    host: `localhost:${port}`,
    "x-forwarded-for": address,
    "x-forwarded-host": request.headers.host ?? "",
    "x-forwarded-proto": scheme,
    ...(prefix === "" ? {} : { "x-forwarded-prefix": prefix }),
    connection: "close",
  };
}

/** For the client. */
export function outwardHeaders(answer: IncomingMessage, form: PortForm): OutgoingHttpHeaders {
  const headers = withoutHops(answer);
  for (const name of NOT_OUTWARD[form]) delete headers[name];
  if (form === "path") return { ...headers, ...PATH_ANSWER };
  const cookies = (answer.headers["set-cookie"] ?? []).flatMap((cookie) => ownCookie(cookie) ?? []);
  delete headers["set-cookie"];
  return { ...headers, ...(cookies.length === 0 ? {} : { "set-cookie": cookies }) };
}

/** Of the cookies of a request, the secret of the visit. */
export function visitOf(cookie: string | undefined, isSecure: boolean): string | undefined {
  const name = isSecure ? SECURE_VISIT_COOKIE : VISIT_COOKIE;
  for (const part of (cookie ?? "").split(";")) {
    const at = part.indexOf("=");
    if (at !== -1 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return undefined;
}

function withoutVisit(cookie: string | undefined): string {
  return (cookie ?? "")
    .split(";")
    .filter((part) => ![VISIT_COOKIE, SECURE_VISIT_COOKIE].includes(part.split("=")[0]?.trim() ?? ""))
    .join(";")
    .trim();
}

/** Every header as it came, but for what belongs to the connection that it came by. */
function withoutHops(message: IncomingMessage): Record<string, string | string[]> {
  const named = (message.headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase());
  const headers: Record<string, string | string[]> = {};
  for (const [name, values = []] of Object.entries(message.headersDistinct))
    if (!HOP_BY_HOP.includes(name) && !named.includes(name)) headers[name] = values.length === 1 ? (values[0] ?? "") : values;
  return headers;
}

/** How the body of a request is marked off; never both ways, never neither when there is one. */
function framing({ headers }: IncomingMessage): OutgoingHttpHeaders {
  if (headers["transfer-encoding"] !== undefined) return { "transfer-encoding": "chunked" };
  return headers["content-length"] === undefined ? {} : { "content-length": headers["content-length"] };
}

/** Without a domain, so that it stays on this port's own host; `undefined` when it would be one of ours. */
function ownCookie(cookie: string): string | undefined {
  const [first = "", ...attributes] = cookie.split(";");
  if ([VISIT_COOKIE, SECURE_VISIT_COOKIE].includes(first.split("=")[0]?.trim() ?? "")) return undefined;
  return [first, ...attributes.filter((attribute) => !/^\s*domain\s*(=|$)/i.test(attribute))].join(";");
}
