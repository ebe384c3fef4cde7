// Whatever a sandbox writes to its socket: the line that begins a connection, and connections as a whole, through the proxy itself.
// `./corral fuzz preface` is the long form.

import fc from "fast-check";
import { afterAll, beforeAll, expect } from "vitest";
import { fuzzed, LONGER_MS, runs } from "../../test/fuzz/budget.ts";
import { verifies } from "../../test/verifies.ts";
import { EgressLab, get, rest } from "../attack/egress-lab.ts";
import { type Entry, MAX_ENTRY_BYTES, parseEntry } from "./entry.ts";

const word = fc.oneof(
  fc.constantFrom(
    "proxy",
    "name",
    "address",
    "resolve",
    "-",
    "1:a",
    "4294967295:x",
    "plain.example",
    "203.0.113.1",
    "::1",
    "80",
    "0",
    "080",
    "+80",
    "65536",
    "",
  ),
  fc.stringMatching(/^[ -~]{0,12}$/),
  fc.string({ unit: "binary", maxLength: 6 }),
);
const words = fc.array(word, { maxLength: 5 }).map((some) => some.join(" "));

/** The one line that says the same. */
function lineOf(entry: Entry): string {
  const told = entry.process ?? "-";
  return "target" in entry ? `${entry.way} ${entry.target.host.text} ${entry.target.port} ${told}` : `${entry.way} ${told}`;
}

verifies(
  "egress/entry-strict",
  "a line that is taken says what it says in one way only",
  () => {
    fc.assert(
      fc.property(words, (line) => {
        const entry = parseEntry(line);
        // Names are taken in any case.
        if (entry !== undefined)
          expect(lineOf(entry)).toBe(entry.way === "name" ? line.replace(/(?<=^name )\S+/, (name) => name.toLowerCase()) : line);
      }),
      runs(2_000),
    );
  },
  5_000 + LONGER_MS,
);

let lab: EgressLab;
beforeAll(async () => {
  lab = new EgressLab();
  await lab.http("plain.example", (_request, response) => response.end("plain"));
  await lab.tcp("secure.example", (socket) => socket.pipe(socket));
  await lab.http("refused.example", (_request, response) => response.end("refused"));
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const piece = fc.oneof(
  words.map((line) => `${line}\n`),
  fc.constantFrom(
    "proxy -\n",
    "resolve 1:x\n",
    "name plain.example 80 -\n",
    "name secure.example 443 -\n",
    "name refused.example 80 -\n",
    "address 203.0.113.3 80 -\n",
    get("http://plain.example/", "plain.example"),
    get("http://refused.example/", "refused.example"),
    get("/", "plain.example"),
    "CONNECT secure.example:443 HTTP/1.1\r\nHost: secure.example:443\r\n\r\n",
    "CONNECT refused.example:80 HTTP/1.1\r\nHost: refused.example:80\r\n\r\n",
    "plain.example\nrefused.example\n",
    "\x16\x03\x01\0\x05\x01\0\0\x01\0",
    "x".repeat(MAX_ENTRY_BYTES),
  ),
  fc.string({ unit: "binary", maxLength: 30 }),
);

verifies(
  "egress/entry-strict",
  "whatever a sandbox sends, nothing is reached that no rule names, and the next connection is served",
  async () => {
    const allow = [{ host: "plain.example", ports: [80], tls: false }, { host: "secure.example" }];
    const path = await lab.sandbox({ allow });
    const reach = [/^203\.0\.113\.1 80$/, /^203\.0\.113\.2 443$/];
    await fuzzed(
      fc.asyncProperty(fc.array(piece, { maxLength: 5 }), fc.boolean(), async (pieces, ends) => {
        const socket = lab.enter(path, pieces[0]?.replace(/\n$/, "") ?? "");
        for (const more of pieces.slice(1)) socket.write(Buffer.from(more, "latin1"));
        if (ends) socket.end();
        else setTimeout(() => socket.destroy(), 5);
        await rest(socket);
        socket.destroy();
        expect(lab.outside.dialled.filter((place) => !reach.some((one) => one.test(place)))).toEqual([]);
        lab.outside.dialled.length = 0;
        lab.verdicts.length = 0;
      }),
      60,
    );
    expect(lab.outside.resolved).not.toContain("refused.example");
    expect(await lab.ask(path, get("http://plain.example/", "plain.example"))).toMatch(/plain$/);
  },
  20_000 + LONGER_MS,
);
