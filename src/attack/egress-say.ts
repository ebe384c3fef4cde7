// Small steps that rows of egress share: made-up worlds with one plain server or one that speaks TLS and keeps what reached it, and what a
// refusal must look like. No attempt of its own. Invariant: what a server keeps is what the proxy sent it, byte for byte.

import { strict as assert } from "node:assert";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { HostRule } from "../api/network.ts";
import { EgressLab } from "./egress-lab.ts";

export const plainHttp = (host: string): HostRule => ({ host, ports: [80], tls: false });

export async function plainLab(): Promise<EgressLab> {
  const lab = new EgressLab();
  await lab.http("plain.example", (_request, response) => response.end("plain"));
  return lab;
}

export function demandRefused(answer: string, reason: string, what: string): void {
  assert.match(answer, new RegExp(`^HTTP/1\\.1 403 [^]*Corral-Refused: ${reason}\r\n`), what);
}

export interface ApiLab {
  readonly lab: EgressLab;
  /** What reached api.example: method, path and credentials. */
  readonly reached: string[];
}

/** api.example answers /to/HOST/PATH with a redirect there, and mirrors credentials. other.example is a stranger. */
export async function apiLab(): Promise<ApiLab> {
  const lab = await plainLab();
  const reached: string[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = "";
    for await (const piece of request) body += String(piece);
    const { headers, method = "", url = "" } = request;
    reached.push([headers.host, method, url, headers.authorization, headers["x-other"], body].join(" "));
    const to = new URLSearchParams(url.split("?")[1]).get("to");
    if (to !== null) response.writeHead(302, { Location: to });
    response.end(`mirror ${headers.authorization}`);
  };
  for (const name of ["api.example", "other.example"]) await lab.https(name, (request, response) => void serve(request, response));
  return { lab, reached };
}
