// Ports of sandboxes on hosts of their own, as browsers meet them: who gets in, what a visit is, what passes and what does not.

import { once } from "node:events";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { SandboxHandle } from "../../src/api/client.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { ACCEPT, serveInside } from "../fixtures/inside.ts";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

const DOMAIN = "boxes.example";

let server: ServerHere;
let sandbox: SandboxHandle;
let key: string;

beforeAll(async () => {
  server = await startServerHere({ "proxy.origin": `http://${DOMAIN}`, "rateLimits.perAddress.requests": "1000" });
  key = await server.keyOf("ann");
  sandbox = await new Corral({ url: server.url, key }).create({ publicPorts: [8080] });
  for (const port of [8080, 3000])
    await serveInside(
      sandbox,
      port,
      `if (request.url === "/cookies") response.setHeader("set-cookie", ["a=1; Domain=${DOMAIN}; Path=/", "corral-visit=stolen", "b=2; HttpOnly"]);
       response.setHeader("access-control-allow-origin", "*");
       response.end(JSON.stringify({ url: request.url, headers: request.headers }));`,
      `${ACCEPT} socket.end();`,
    );
});
afterAll(() => server[Symbol.asyncDispose]());

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: { readonly url?: string; readonly headers?: Readonly<Record<string, string>>; readonly error?: { readonly code: string } };
}

/** A request for a host that this machine does not know by name. */
async function ask(name: string, path = "/", headers: Readonly<Record<string, string>> = {}, method = "GET"): Promise<Answer> {
  const asked = httpRequest({ host: "127.0.0.1", port: new URL(server.url).port, path, method, headers: { ...headers, host: name } });
  asked.end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const body = await text(response);
  return { status: response.statusCode ?? 0, headers: response.headers, body: body === "" ? {} : (JSON.parse(body) as Answer["body"]) };
}

function host(port: number, id = sandbox.id): string {
  return `${port}-${id}.${DOMAIN}`;
}

async function ticket(port = 3000, secret = key): Promise<{ ticket: string; url: string }> {
  const response = await fetch(`${server.url}/v1/sandboxes/${sandbox.id}/tickets`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ port }),
  });
  return (await response.json()) as { ticket: string; url: string };
}

async function visit(port = 3000, secret = key): Promise<string> {
  const { url } = await ticket(port, secret);
  const opened = await ask(host(port), url.slice(url.indexOf("/.corral")));
  expect(opened.status).toBe(303);
  return (opened.headers["set-cookie"]?.[0] ?? "").split(";")[0] ?? "";
}

const said = ({ status, body }: Answer): readonly [number, string | undefined] => [status, body.error?.code];

verifies("server/port-public", "a port is closed unless it was made public at creation, and then it is open to everybody", async () => {
  expect((await ask(host(8080), "/a?b=%20")).body.url).toBe("/a?b=%20");
  expect(said(await ask(host(3000)))).toEqual([401, "unauthorized"]);
  expect(said(await ask(host(3001)))).toEqual([401, "unauthorized"]);
  expect(said(await ask(host(8080, `sb${"0".repeat(20)}`)))).toEqual([401, "unauthorized"]);
  expect(
    (
      await ask(
        host(8080)
          .toUpperCase()
          .replace(/^8080-SB/, "8080-sb"),
      )
    ).status,
  ).toBe(200);
  expect(await sandbox.info()).toMatchObject({ publicPorts: [8080] });
  // A page elsewhere may ask, as the program inside allows; it is not the API's to judge.
  expect((await ask(host(8080), "/", { origin: "https://elsewhere.example" })).headers["access-control-allow-origin"]).toBe("*");
});

verifies(
  "server/port-visit",
  "a one-time ticket opens one port for one browser, and its cookie goes neither inside nor elsewhere",
  async () => {
    const { url, ticket: secret } = await ticket();
    expect(url).toBe(`http://3000-${sandbox.id}.${DOMAIN}/.corral/visit?ticket=${secret}`);
    const path = url.slice(url.indexOf("/.corral"));
    const opened = await ask(host(3000), `${path}&to=/page?x=1`);
    expect([opened.status, opened.headers.location, opened.headers["cache-control"]]).toEqual([303, "/page?x=1", "no-store"]);
    expect(opened.headers["set-cookie"]?.[0]).toMatch(/^corral-visit=[a-z0-9]{40}; Path=\/; HttpOnly; SameSite=Lax; Max-Age=43200$/);
    expect(said(await ask(host(3000), path))).toEqual([401, "ticket_invalid"]);
    const cookie = (opened.headers["set-cookie"]?.[0] ?? "").split(";")[0] ?? "";
    const seen = await ask(host(3000), "/page", { cookie: `mine=1; ${cookie}; other=2` });
    expect(seen.status).toBe(200);
    expect(seen.body.headers?.["cookie"]?.replaceAll(" ", "")).toBe("mine=1;other=2");
    expect(said(await ask(host(3001), "/", { cookie }))).toEqual([401, "unauthorized"]);
    const { url: other } = await ticket(3001);
    expect(said(await ask(host(3000), other.slice(other.indexOf("/.corral"))))).toEqual([401, "ticket_invalid"]);
    for (const to of ["//evil.example", "/\\evil.example", "https://evil.example", "/a%0d%0ax: y"]) {
      const { url: next } = await ticket();
      const led = await ask(host(3000), `${next.slice(next.indexOf("/.corral"))}&to=${encodeURIComponent(to)}`);
      expect(led.headers.location, to).toMatch(/^\/(%|a%|$)/);
    }
  },
);

verifies(
  "server/port-visit-pages",
  "a visit counts for its own pages and for a person who goes there, not for pages of other sandboxes",
  async () => {
    const cookie = await visit();
    const as = (headers: Readonly<Record<string, string>>, method = "GET"): Promise<Answer> =>
      ask(host(3000), "/", { cookie, ...headers }, method);
    const navigate = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
    expect((await as({ origin: `http://${host(3000)}`, "sec-fetch-site": "same-origin" }, "POST")).status).toBe(200);
    expect((await as({ "sec-fetch-site": "cross-site", ...navigate })).status).toBe(200);
    const refused: readonly (readonly [Readonly<Record<string, string>>, string])[] = [
      [{ origin: `http://${host(8080)}`, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors" }, "POST"],
      [{ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" }, "GET"],
      [{ "sec-fetch-site": "same-site", ...navigate }, "POST"],
      [{ "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe" }, "GET"],
      [{ origin: "null" }, "GET"],
    ];
    for (const [headers, method] of refused)
      expect(said(await as(headers, method)), JSON.stringify(headers)).toEqual([401, "unauthorized"]);
  },
);

verifies("server/port-visit-ends", "a visit ends with the key that it came from", async () => {
  const { id, secret } = await server.admin.tokens.issue({ ownerId: "ann", scope: "user", name: "short" });
  const cookie = await visit(3000, secret);
  expect((await ask(host(3000), "/", { cookie })).status).toBe(200);
  await server.admin.tokens.revoke(id, { ownerId: "ann" });
  expect(said(await ask(host(3000), "/", { cookie }))).toEqual([401, "unauthorized"]);
});

verifies("server/port-host-key", "a key in a header of its own opens a port, and no key of ours goes inside", async () => {
  const { body } = await ask(host(3000), "/", { "corral-key": key, authorization: `Bearer ${key}` });
  expect(JSON.stringify(body)).not.toContain(key);
  const own = await ask(host(3000), "/", { "corral-key": key, authorization: "Basic YTpi" });
  expect(own.body.headers?.["authorization"]).toBe("Basic YTpi");
  expect(said(await ask(host(3000), "/", { "corral-key": await server.keyOf("bob") }))).toEqual([404, "sandbox_not_found"]);
  expect(said(await ask(host(3000), "/", { "corral-key": "ckwrong" }))).toEqual([401, "unauthorized"]);
});

verifies("server/port-cookies", "a sandbox sets cookies for its own host alone, and none of ours", async () => {
  const { headers } = await ask(host(8080), "/cookies");
  expect(headers["set-cookie"]).toEqual(["a=1; Path=/", "b=2; HttpOnly"]);
});

verifies("server/port-domain", "no host below the domain answers as the API", async () => {
  for (const name of [`api.${DOMAIN}`, `0-${sandbox.id}.${DOMAIN}`, `99999-${sandbox.id}.${DOMAIN}`, `x.${host(8080)}`])
    expect(said(await ask(name, "/healthz", { authorization: `Bearer ${key}` })), name).toEqual([404, "route_not_found"]);
  expect((await ask(`${host(8080)}:4700`, "/v1/sandboxes", { authorization: `Bearer ${key}` })).body.url).toBe("/v1/sandboxes");
  expect((await ask("127.0.0.1", "/v1/sandboxes", { authorization: `Bearer ${key}` })).status).toBe(200);
  expect(said(await ask("127.0.0.1", "/.ports"))).toEqual([404, "route_not_found"]);
});

it("passes a WebSocket of a visit, and refuses one of another page", async () => {
  const cookie = await visit();
  const url = `${server.url.replace("http", "ws")}/socket`;
  const open = new WebSocket(url, { headers: { host: host(3000), cookie, origin: `http://${host(3000)}` } });
  await once(open, "open");
  open.on("error", () => undefined).terminate();
  const refused = new WebSocket(url, { headers: { host: host(3000), cookie, origin: `http://${host(8080)}` } });
  const [, response] = (await once(refused, "unexpected-response")) as [unknown, IncomingMessage];
  expect(response.statusCode).toBe(401);
  refused.on("error", () => undefined).terminate();
});
