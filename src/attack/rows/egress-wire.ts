// Class egress, on the server: bytes that two readers read in two ways, TLS for another host, floods, and rules that go while they carry.
// Invariant: what is refused here was refused by the proxy that serves sandboxes, before a world that is made up.

import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import type { HostRule, NetworkVerdict } from "../../api/network.ts";
import { MAX_TOLD } from "../../egress/limits.ts";
import { EgressLab, get, rest, until } from "../egress-lab.ts";
import { apiLab, plainHttp, plainLab } from "../egress-say.ts";
import type { StoryRow } from "../row.ts";

/** One request a line; said there. */
const SMUGGLED: readonly string[] = readFileSync(join(import.meta.dirname, "..", "smuggling.txt"), "latin1")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => JSON.parse(`"${line}"`) as string);
/** Of both ways to say how long a body is, whoever reads one sees one request, whoever reads the other sees two. */
const TWO_LENGTHS =
  "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 46\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n";

const SMUGGLE: StoryRow = {
  id: "egress/request-smuggle",
  what: "requests that two parsers read in two ways: two Hosts, two lengths, bare line feeds, folded lines, h2c, a head without end",
  onServer: true,
  promise: "egress/strict-heads",
  async attempt() {
    await using lab = await plainLab();
    const path = await lab.sandbox({ open: true });
    const endless = get("http://plain.example/", "plain.example", `X: ${"x".repeat(1_000_000)}\r\n`);
    for (const request of [...SMUGGLED, endless])
      assert.match(await lab.ask(path, request), /^HTTP\/1\.1 400 [^]*Connection: close/, JSON.stringify(request).slice(0, 100));
    const chunked = "POST http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    const answers = await lab.ask(path, `${chunked}0\r\nX: y\r\n${get("http://plain.example/2", "plain.example")}`);
    assert.ok(!/200 OK[^]*200 OK/.test(answers), "a trailer was read past, and a request behind it");
    assert.deepEqual(
      lab.outside.resolved.filter((name) => name !== "plain.example"),
      [],
    );
  },
  control: {
    kind: "naive",
    async prove() {
      const seen: string[] = [];
      const server = createServer({ insecureHTTPParser: true }, ({ url = "" }, response) => {
        seen.push(url);
        response.end();
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      try {
        const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
        socket.end(TWO_LENGTHS);
        await rest(socket);
      } finally {
        server.close();
      }
      const [head = "", body = ""] = TWO_LENGTHS.split(/(?<=\r\n\r\n)([^]*)/);
      assert.equal(body.length, Number(/Content-Length: (\d+)/.exec(head)?.[1]), "by its length it is one request");
      assert.deepEqual(seen, ["/", "/smuggled"]);
    },
  },
};

/** TLS with this name in its hello, inside a connection to secure.example; what came back of one request. */
async function throughTls(lab: EgressLab, path: string, servername: string, host: string): Promise<string> {
  const socket = lab.enter(path, "name secure.example 443 -");
  const ca = [lab.publicAuthority.certificate, lab.authority.certificate];
  const inner = tlsConnect({ socket, servername, ca, rejectUnauthorized: servername === host });
  inner.on("error", () => inner.destroy());
  inner.write(get("/", host));
  return await rest(inner);
}

async function secureLab(): Promise<EgressLab> {
  const lab = new EgressLab();
  await lab.https("secure.example", (_request, response) => response.end("secure"));
  return lab;
}

const FRONTING: StoryRow = {
  id: "egress/sni-mismatch",
  what: "TLS for another host than the one asked for, for none, and no TLS at all; requests for another host in TLS that is read",
  onServer: true,
  promise: "egress/fronting",
  async attempt() {
    await using lab = await secureLab();
    const path = await lab.sandbox({ allow: [{ host: "secure.example" }] });
    for (const servername of ["other.example", ""])
      assert.equal(await throughTls(lab, path, servername, "secure.example"), "", `TLS for ${servername || "nobody"}`);
    assert.equal(await lab.ask(path, "SSH-2.0-x\r\n", "name secure.example 443 -"), "", "no TLS");
    const tunnel = lab.enter(path, "proxy -");
    tunnel.write("CONNECT secure.example:443 HTTP/1.1\r\nHost: secure.example:443\r\n\r\n");
    await until(tunnel, "\r\n\r\n");
    const inner = tlsConnect({ socket: tunnel, servername: "other.example", rejectUnauthorized: false });
    inner.on("error", () => inner.destroy());
    assert.equal(await rest(inner), "", "CONNECT for one host, TLS for another");
    const told = (await lab.close(path)).map(({ reason }) => reason);
    assert.deepEqual([...new Set(told)].toSorted(), ["sni", "tls"], "told as what they are");
    const read = await lab.sandbox({ allow: [{ host: "secure.example", methods: ["GET"] }] });
    assert.match(await lab.askTls(read, "secure.example", get("/", "other.example")), /^HTTP\/1\.1 421 /);
  },
  control: {
    kind: "accept",
    async prove() {
      await using lab = await secureLab();
      for (const rule of [{ host: "secure.example" }, { host: "secure.example", methods: ["GET"] }])
        assert.match(await throughTls(lab, await lab.sandbox({ allow: [rule] }), "secure.example", "secure.example"), /secure$/);
    },
  },
};

const raw = (host: string): HostRule => ({ host, ports: [7], tls: false });

async function quietLab(): Promise<EgressLab> {
  const lab = await plainLab();
  await lab.tcp("quiet.example", () => undefined, 7);
  await lab.tcp("unasked.example", () => undefined);
  return lab;
}

const sumOf = (told: readonly NetworkVerdict[]): number => told.reduce((sum, { count }) => sum + count, 0);

const FLOOD: StoryRow = {
  id: "egress/flood-out",
  what: "connections without end, heads and answers that take for ever, and refusals by the thousand",
  onServer: true,
  promise: "egress/told-bounded",
  async attempt() {
    await using lab = await quietLab();
    const limits = { connections: 3, headMs: 500, idleMs: 500 };
    const path = await lab.sandbox({ allow: [raw("quiet.example")] }, { limits: { ...limits, idleMs: 60_000 } });
    const held = Array.from({ length: 3 }, () => lab.enter(path, "name quiet.example 7 -"));
    while (lab.outside.dialled.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    const more = await Promise.all(
      Array.from({ length: 300 }, () => lab.ask(path, "CONNECT quiet.example:7 HTTP/1.1\r\nHost: quiet.example:7\r\n\r\n")),
    );
    for (const answer of more) assert.match(answer, /^(HTTP\/1\.1 429 [^]*Retry-After: 1\r\n|$)/, "one more than the limit was carried");
    assert.ok(
      more.some((answer) => answer !== ""),
      "nobody was told of the limit",
    );
    for (const socket of held) socket.destroy();
    const slow = await lab.sandbox({ allow: [raw("quiet.example"), { host: "unasked.example", methods: ["GET"] }] }, { limits });
    const [silent, crumbs] = [lab.enter(slow, "name quiet.example 7 -"), lab.enter(slow, "proxy -")];
    crumbs.write("GET http://quiet.example:7/ HT");
    const unasked = lab.tls(slow, "unasked.example");
    assert.deepEqual(await Promise.all([rest(silent), rest(crumbs), rest(unasked)]), ["", "", ""]);
    assert.deepEqual([...new Set((await lab.close(slow)).map(({ outcome, reason }) => `${outcome} ${reason}`))], ["limited idle"]);
    const loud = await lab.sandbox({ allow: [] });
    const asking = lab.enter(loud, "resolve -");
    asking.end(Array.from({ length: 5_000 }, (_, index) => (index < 200 ? "same.example\n" : `n${index}.example\n`)).join(""));
    assert.equal((await rest(asking)).split("\n").length, 5_001);
    const told = await lab.close(loud);
    // It took two seconds at most, unless the machine stood still: then each second has its own.
    assert.ok(
      told.length < told.filter(({ host }) => host === "same.example").length * (MAX_TOLD + 1) * 3,
      `${told.length} lines were told`,
    );
    assert.equal(sumOf(told), 5_000, "a refusal was not counted");
  },
  control: {
    kind: "accept",
    async prove() {
      await using lab = await plainLab();
      const path = await lab.sandbox({ allow: [plainHttp("plain.example")] }, { limits: { connections: 3, headMs: 500, idleMs: 500 } });
      for (let i = 0; i < 10; i++) assert.match(await lab.ask(path, get("http://plain.example/", "plain.example")), /plain$/);
    },
  },
};

interface Carried {
  readonly one: Socket;
  readonly other: Socket;
  /** A connection on which requests are read, kept alive. */
  readonly kept: ReturnType<EgressLab["tls"]>;
  readonly path: string;
}

async function carried(lab: EgressLab): Promise<Carried> {
  for (const name of ["one.example", "other.example"]) await lab.tcp(name, (socket) => socket.pipe(socket), 7);
  const path = await lab.open(
    "sb-live",
    lab.state({ allow: [raw("one.example"), raw("other.example"), { host: "api.example", methods: ["GET"] }] }),
  );
  const [one, other] = [lab.enter(path, "name one.example 7 -"), lab.enter(path, "name other.example 7 -")];
  for (const socket of [one, other]) {
    socket.write("first");
    await until(socket, "first");
  }
  const kept = lab.tls(path, "api.example");
  kept.write("GET /first HTTP/1.1\r\nHost: api.example\r\n\r\n");
  await until(kept, "mirror");
  return { one, other, kept, path };
}

const LIVE: StoryRow = {
  id: "egress/live-cut",
  what: "go on by a tunnel, a kept connection and a new one when the rule that carried them is withdrawn",
  onServer: true,
  promise: "egress/live",
  async attempt() {
    const { lab: opened, reached } = await apiLab();
    await using lab = opened;
    const { one, other, kept, path } = await carried(lab);
    lab.core.update("sb-live", lab.state({ allow: [raw("other.example")] }, { version: 2 }));
    assert.equal(await rest(one), "", "the tunnel lived on");
    kept.write("GET /second HTTP/1.1\r\nHost: api.example\r\n\r\n");
    assert.ok(!(await rest(kept)).includes("HTTP/"), "the kept connection lived on");
    assert.equal(reached.length, 1, "a second request went out");
    assert.equal(await rest(lab.enter(path, "name one.example 7 -")), "", "a new connection was carried");
    other.end("second");
    assert.equal(await rest(other), "second", "what is still allowed was cut as well");
    const told = (await lab.close(path)).filter(({ reason }) => reason === "withdrawn").map(({ host, version }) => `${host} ${version}`);
    assert.deepEqual(told, ["one.example 2"]);
  },
  control: {
    kind: "twin",
    async prove() {
      const { lab: opened } = await apiLab();
      await using lab = opened;
      const { one, kept } = await carried(lab);
      lab.core.update("sb-live", lab.state({ allow: [raw("one.example"), { host: "api.example", methods: ["GET"] }] }, { version: 2 }));
      one.end("second");
      assert.equal(await rest(one), "second");
      kept.write(get("/second", "api.example"));
      assert.match(await rest(kept), /HTTP\/1\.1 200 OK/);
    },
  },
};

export const EGRESS_WIRE: readonly StoryRow[] = [SMUGGLE, FRONTING, FLOOD, LIVE];
