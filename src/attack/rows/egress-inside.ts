// Class egress, in sandboxes with a network: programs that go past the proxy variables, and whoever comes from outside for the relay.
// Invariant: the control of each reaches, by the same way, what it may.

import { strict as assert } from "node:assert";
import { errorCode } from "../../api/errors.ts";
import type { NetworkPolicy } from "../../api/network.ts";
import type { Sandbox } from "../../api/sandbox.ts";
import { attempt, inside } from "../say.ts";
import type { Bed, StoryRow } from "../row.ts";

/** Where the relay of every sandbox with a network listens. */
const RELAY = "198.18.0.1";
const RELAY_PORTS = [3128, 53];
const ALLOWED: NetworkPolicy = { allow: [{ host: "plain.example", ports: [80], tls: false }] };
const ELSEWHERE = ["1.1.1.1 443", "8.8.8.8 53", "10.0.0.1 80", "169.254.169.254 80", "198.20.0.1 80", "2606:4700::1 443"];
const GET = "GET /own HTTP/1.0\r\nHost: plain.example\r\n\r\n";

/** The words of the static program that knows no proxy variable. */
const doors = (sandbox: Sandbox, ...words: string[]): Promise<string> => inside(sandbox, [attempt("doors"), ...words], { anyExit: true });

async function networked(bed: Bed): Promise<Sandbox> {
  await bed.net.http("plain.example", (request, response) => response.end(`plain ${request.url}`));
  await bed.net.http("refused.example", (_request, response) => response.end("refused"));
  return await bed.open({ network: ALLOWED });
}

async function addressOf(sandbox: Sandbox, name: string): Promise<string> {
  return (await inside(sandbox, ["/usr/bin/getent", "ahostsv4", name], { anyExit: true })).split(/\s/)[0] ?? "";
}

/** Port 80 of an address by the static program: what came back of a request. */
const raw = (sandbox: Sandbox, address: string, port = 80): Promise<string> => doors(sandbox, "ask", address, String(port), GET);

const IGNORE: StoryRow = {
  id: "egress/ignore-proxy",
  what: "a static program without proxy variables: raw connects, its own resolver, datagrams, addresses that stand for nothing",
  promise: "egress/whole",
  async attempt(bed) {
    await using sandbox = await networked(bed);
    for (const place of ELSEWHERE)
      for (const kind of ["connect", "udp"])
        assert.match(await doors(sandbox, kind, ...place.split(" ")), /^(ENETUNREACH|EADDRNOTAVAIL)$/, `${kind} ${place}`);
    assert.equal(await addressOf(sandbox, "refused.example"), "", "a name without a rule is found");
    assert.equal(await raw(sandbox, "198.19.7.7"), "ECONNREFUSED");
    const address = await addressOf(sandbox, "plain.example");
    assert.equal(await raw(sandbox, address, 8080), "ECONNREFUSED", "another port of an allowed host");
    assert.match(await raw(sandbox, RELAY, 3128), /^HTTP\/1\.1 400 /, "the proxy itself takes no request without a host");
    const refused = GET.replace("/own HTTP/1.0", "http://refused.example/ HTTP/1.1").replace("plain", "refused");
    assert.match(await doors(sandbox, "ask", RELAY, "3128", refused), /^HTTP\/1\.1 403 /);
    assert.ok(!bed.net.outside.resolved.includes("refused.example"), "it was asked for outside");
  },
  control: {
    kind: "accept",
    async prove(bed) {
      await using sandbox = await networked(bed);
      assert.match(await raw(sandbox, await addressOf(sandbox, "plain.example")), /plain \/own$/);
      const through = GET.replace("/own HTTP/1.0", "http://plain.example/by HTTP/1.1\r\nConnection: close");
      assert.match(await doors(sandbox, "ask", RELAY, "3128", through), /plain \/by$/);
      const connect = "printf 'GET /connect HTTP/1.0\\r\\nHost: plain.example\\r\\n\\r\\n' | corral-connect plain.example 80";
      assert.match(await inside(sandbox, connect), /plain \/connect$/);
    },
  },
};

/** How a connection from outside to a port ends. */
async function fromOutside(sandbox: Sandbox, port: number): Promise<string> {
  try {
    const { readable, writable } = await sandbox.connect(port);
    await writable.close().catch(() => undefined);
    let said = "";
    for await (const piece of readable) said += Buffer.from(piece).toString("latin1");
    return said;
  } catch (error) {
    return errorCode(error) ?? String(error);
  }
}

const FROM_OUTSIDE: StoryRow = {
  id: "egress/relay-from-outside",
  what: "reach the relay of a sandbox by its ports, from outside and from a sibling",
  promise: "egress/relay-from-outside",
  async attempt(bed) {
    await using sandbox = await networked(bed);
    await addressOf(sandbox, "plain.example");
    for (const port of [...RELAY_PORTS, 80]) assert.equal(await fromOutside(sandbox, port), "port_closed", `port ${port}`);
    await using sibling = await bed.open();
    for (const port of RELAY_PORTS) assert.match(await doors(sibling, "connect", RELAY, String(port)), /^(ENETUNREACH|EADDRNOTAVAIL)$/);
    assert.match(await doors(sandbox, "connect", RELAY, "3128"), /^OK$/, "its own programs reach it");
  },
  control: {
    kind: "planted",
    async prove(bed) {
      await using sandbox = await networked(bed);
      const listening = await sandbox.start({ command: [attempt("doors"), "listen", "8080"] });
      while ((await fromOutside(sandbox, 8080)) === "port_closed") await new Promise((resolve) => setTimeout(resolve, 10));
      listening.signal("SIGKILL");
      await listening.result;
    },
  },
};

export const EGRESS_INSIDE: readonly StoryRow[] = [IGNORE, FROM_OUTSIDE];
