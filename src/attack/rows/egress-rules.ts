// Class egress, on the server: what rules must never let through, whatever name, spelling, answer, path or redirect leads there. Each row has
// a made-up world of its own. Invariant: a row that is held has also shown that nothing was dialled.

import { strict as assert } from "node:assert";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { NetworkPolicy } from "../../api/network.ts";
import { range } from "../../egress/address.ts";
import { EgressLab, get, rest } from "../egress-lab.ts";
import { apiLab, demandRefused, plainHttp, plainLab } from "../egress-say.ts";
import type { StoryRow } from "../row.ts";

/** As wide as a policy can be. */
const WIDE: NetworkPolicy = {
  open: true,
  allow: [
    { cidr: "0.0.0.0/0", ports: "any" },
    { cidr: "::/0", ports: "any" },
    { host: "evil.example", ports: "any", tls: false },
  ],
};
const OWN_ADDRESS = "192.0.2.7";
const METADATA = [
  ...["127.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1", OWN_ADDRESS],
  ...["::1", "::ffff:7f00:1", "::ffff:a9fe:a9fe", "fd00:ec2::254", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"],
];
const METADATA_NAMES = ["localhost", "metadata.google.internal", "metadata.goog", "a.metadata.azure.com", "host.docker.internal"];
/** Each is another host, or none, to some parser; the first four are 127.0.0.1 to most. */
const SPELLINGS = [
  ...["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost.", "[::ffff:127.0.0.1%25lo]", "::1", "[::1"],
  ...[
    "plain.example%00.evil.example",
    "plain.example\0.evil.example",
    "plain.example:80@evil.example",
    "user@plain.example",
    "plain.example#x",
  ],
  ...[
    "plain.example?x",
    "plain.example\\x",
    "plain.example\r\nX: y",
    "plain.example\t",
    "plain.ex\u00e4mple",
    "plain..example",
    "a".repeat(300),
  ],
];

const METADATA_ROW: StoryRow = {
  id: "egress/metadata",
  what: "reach metadata, loopback and the node's own addresses, by address, by name and among other answers, under the widest rules",
  onServer: true,
  promise: "egress/never",
  async attempt() {
    await using lab = await plainLab();
    lab.outside.ownRanges.push(range(OWN_ADDRESS));
    const path = await lab.sandbox(WIDE);
    for (const address of METADATA) {
      const host = address.includes(":") ? `[${address}]` : address;
      demandRefused(await lab.ask(path, `CONNECT ${host}:80 HTTP/1.1\r\nHost: ${host}:80\r\n\r\n`), "address", `CONNECT ${address}`);
      demandRefused(await lab.ask(path, get(`http://${host}/`, host)), "address", `GET ${address}`);
      assert.equal(await lab.ask(path, "x", `address ${address} 80 -`), "", `redirected to ${address}`);
      lab.outside.names.set("evil.example", [["203.0.113.1", address]]);
      const mixed = await lab.sandbox(WIDE);
      demandRefused(
        await lab.ask(mixed, get("http://evil.example/", "evil.example")),
        "address",
        `a name with ${address} among its answers`,
      );
    }
    for (const name of METADATA_NAMES) demandRefused(await lab.ask(path, get(`http://${name}/`, name)), "address", name);
    assert.deepEqual(lab.outside.dialled, [], "something was dialled");
  },
  control: {
    kind: "planted",
    async prove() {
      await using lab = await plainLab();
      const path = await lab.sandbox({ allow: [{ cidr: "203.0.113.0/24", ports: [80] }] });
      assert.match(await lab.ask(path, get("http://203.0.113.1/", "203.0.113.1")), /plain$/);
      assert.match(await lab.ask(path, get("/", "x"), "address 203.0.113.1 80 -"), /plain$/);
    },
  },
};

const SPELLINGS_ROW: StoryRow = {
  id: "egress/host-spellings",
  what: "a host that two parsers read in two ways: decimal, octal, hex, short, zone, trailing dot, user@, NUL, line ends, 300 bytes",
  onServer: true,
  async attempt() {
    await using lab = await plainLab();
    const path = await lab.sandbox(WIDE);
    for (const host of SPELLINGS) {
      assert.match(await lab.ask(path, get(`http://${host}/`, host)), /^HTTP\/1\.1 400 /, JSON.stringify(host));
      assert.match(
        await lab.ask(path, `CONNECT ${host}:80 HTTP/1.1\r\nHost: ${host}:80\r\n\r\n`),
        /^HTTP\/1\.1 400 /,
        JSON.stringify(host),
      );
      assert.equal(await lab.ask(path, "x", `name ${host} 80 -`), "", JSON.stringify(host));
    }
    assert.deepEqual(lab.outside.dialled, [], "something was dialled");
  },
  control: {
    kind: "naive",
    async prove() {
      // One parser looks for forbidden texts, another one dials.
      const server = createServer((_request, response) => response.end("loopback"));
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      try {
        const { port } = server.address() as AddressInfo;
        for (const host of SPELLINGS.slice(0, 4)) {
          assert.ok(!/^(127\.0\.0\.1|localhost|::1)$/.test(host), `${host} is on the list`);
          assert.equal(await (await fetch(`http://${host}:${port}/`)).text(), "loopback");
        }
      } finally {
        server.close();
      }
    },
  },
};

const REBINDING_ROW: StoryRow = {
  id: "egress/rebinding",
  what: "a name that answers a public address first and a private one then, or both at once",
  onServer: true,
  promise: "egress/pinned",
  async attempt() {
    await using lab = await plainLab();
    const path = await lab.sandbox({ allow: [plainHttp("rebind.example")] });
    lab.outside.names.set("rebind.example", [["203.0.113.1"], ["127.0.0.1"], ["10.0.0.1"]]);
    for (let i = 0; i < 3; i++) assert.match(await lab.ask(path, get("http://rebind.example/", "rebind.example")), /plain$/);
    assert.deepEqual(lab.outside.dialled, ["203.0.113.1 80", "203.0.113.1 80", "203.0.113.1 80"], "another address was dialled");
    assert.deepEqual(lab.outside.resolved, ["rebind.example"], "the name was resolved again");
    for (const answers of [["127.0.0.1"], ["203.0.113.1", "10.0.0.1"], ["203.0.113.1", "no address"]]) {
      lab.outside.names.set("rebind.example", [answers]);
      const other = await lab.sandbox({ allow: [plainHttp("rebind.example")] });
      demandRefused(await lab.ask(other, get("http://rebind.example/", "rebind.example")), "address", answers.join(" and "));
    }
    assert.equal(lab.outside.dialled.length, 3, "a forbidden answer was dialled around");
  },
  control: {
    kind: "naive",
    async prove() {
      await using lab = await plainLab();
      lab.outside.names.set("rebind.example", [["203.0.113.1"], ["127.0.0.1"]]);
      const judged = (await lab.outside.resolve("rebind.example")).addresses;
      const dialled = (await lab.outside.resolve("rebind.example")).addresses;
      assert.deepEqual([judged, dialled], [["203.0.113.1"], ["127.0.0.1"]], "whoever resolves twice dials what was not judged");
    },
  },
};

const OTHER_PORTS_ROW: StoryRow = {
  id: "egress/connect-other",
  what: "other ports of an allowed host, and other protocols than its rule carries",
  onServer: true,
  async attempt() {
    await using lab = await plainLab();
    await lab.tcp("secure.example", (socket) => socket.pipe(socket));
    const path = await lab.sandbox({ allow: [plainHttp("plain.example"), { host: "secure.example" }] });
    for (const port of [22, 25, 53, 443, 3306, 8080]) {
      const host = `plain.example:${port}`;
      demandRefused(await lab.ask(path, `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`), "no-rule", host);
      assert.equal(await lab.ask(path, "x", `name plain.example ${port} -`), "", host);
    }
    const h2c = get("http://plain.example/", "plain.example", "Upgrade: h2c\r\n");
    assert.match(await lab.ask(path, h2c), /^HTTP\/1\.1 400 /, "an upgrade to h2c");
    for (const bytes of ["SSH-2.0-x\r\n", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
      assert.equal(await lab.ask(path, bytes, "name secure.example 443 -"), "", "no TLS where TLS is demanded");
  },
  control: {
    kind: "accept",
    async prove() {
      await using lab = new EgressLab();
      await lab.tcp("plain.example", (socket) => socket.pipe(socket), 22);
      const path = await lab.sandbox({ allow: [{ host: "plain.example", ports: [22], tls: false }] });
      const socket = lab.enter(path, "name plain.example 22 -");
      socket.end("there and back");
      assert.equal(await rest(socket), "there and back");
    },
  },
};

const PATHS_ROW: StoryRow = {
  id: "egress/path-tricks",
  what: "leave the paths and methods of a rule: dot segments, escapes, empty segments, parameters, another method and headers that say one",
  onServer: true,
  async attempt() {
    const { lab: opened, reached } = await apiLab();
    await using lab = opened;
    const path = await lab.sandbox({ allow: [{ host: "api.example", methods: ["GET"], paths: ["/repos/acme/**"] }] });
    const tails = ["../x", "%2e%2e/x", ".%2E/x", "a%2fb", "a%5cb", "a\\b", "/x", "x;a", "./x", "%00", "x%25"];
    for (const url of ["/", "/repos/other/x", "/Repos/acme/x", "/repos/acme", ...tails.map((tail) => `/repos/acme/${tail}`)])
      demandRefused(await lab.askTls(path, "api.example", get(url, "api.example")), "request", url);
    for (const method of ["DELETE", "POST", "TRACE", "TRACK", "OPTIONS"])
      demandRefused(await lab.askTls(path, "api.example", get("/repos/acme/x", "api.example", "", method)), "request", method);
    for (const header of ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
      demandRefused(await lab.askTls(path, "api.example", get("/repos/acme/x", "api.example", `${header}: DELETE\r\n`)), "request", header);
    const twoLengths = get("/repos/acme/x", "api.example", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n");
    assert.match(await lab.askTls(path, "api.example", twoLengths), /^HTTP\/1\.1 400 /);
    assert.deepEqual(reached, [], "something went out");
  },
  control: {
    kind: "accept",
    async prove() {
      const { lab: opened, reached } = await apiLab();
      await using lab = opened;
      const path = await lab.sandbox({ allow: [{ host: "api.example", methods: ["GET"], paths: ["/repos/acme/**"] }] });
      await lab.askTls(path, "api.example", get("/repos/acme/x%20y?q=/../", "api.example"));
      assert.match(reached.join(), /^api\.example GET \/repos\/acme\/x%20y\?q=\/\.\.\/ /, "byte for byte");
    },
  },
};

export const EGRESS_RULES: readonly StoryRow[] = [METADATA_ROW, SPELLINGS_ROW, REBINDING_ROW, OTHER_PORTS_ROW, PATHS_ROW];
