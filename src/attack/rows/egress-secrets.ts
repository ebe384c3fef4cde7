// Class egress: a secret that is bound to one host. Where its placeholder may not become the value, and where the value may not be seen.
// Invariant: a row that is held has also shown that the value reached the host that it is bound to.

import { strict as assert } from "node:assert";
import type { NetworkPolicy } from "../../api/network.ts";
import { newPlaceholder } from "../../egress/secrets.ts";
import { get } from "../egress-lab.ts";
import { type ApiLab, apiLab, demandRefused, plainHttp } from "../egress-say.ts";
import { isInMemory } from "../memory.ts";
import { type Bed, NET_SECRET, type StoryRow } from "../row.ts";
import { inside } from "../say.ts";
import { CorralError } from "../../api/errors.ts";

const { name: NAME, value: VALUE } = NET_SECRET;
const BOUND = { host: "api.example", secrets: [{ name: NAME }] } as const;

interface Bound extends ApiLab {
  readonly path: string;
  readonly placeholder: string;
  /** Sends the placeholder as credentials; gives what came back. */
  readonly send: (host: string, url: string, more?: string) => Promise<string>;
}

/** A sandbox with a secret for api.example, and rules for strangers. */
async function bound(): Promise<Bound> {
  const api = await apiLab();
  const placeholder = newPlaceholder();
  const allow = [BOUND, { host: "other.example", methods: ["GET"] }, plainHttp("plain.example")];
  const path = await api.lab.sandbox({ allow }, { secrets: [{ name: NAME, placeholder, value: VALUE }] });
  const send = (host: string, url: string, more = ""): Promise<string> =>
    api.lab.askTls(path, host, get(url, host, `Authorization: Bearer ${placeholder}\r\n${more}`));
  return { ...api, path, placeholder, send };
}

function demandNever(reached: readonly string[], what: string): void {
  assert.ok(!reached.join("\n").includes(VALUE), `the value was sent: ${what}`);
}

async function demandArrives(): Promise<void> {
  const { lab: opened, reached, send } = await bound();
  await using lab = opened;
  await send("api.example", "/x");
  assert.match(reached.join(), new RegExp(` Bearer ${VALUE.replaceAll("+", "\\+")} `));
  assert.deepEqual(lab.outside.resolved, ["api.example"]);
}

const ELSEWHERE: StoryRow = {
  id: "egress/secret-elsewhere",
  what: "a placeholder in a URL, a body, another header, to another host, over http, in TRACE; and one of another sandbox",
  onServer: true,
  promise: "egress/secret-bound",
  async attempt() {
    const { lab: opened, reached, path, placeholder, send } = await bound();
    await using lab = opened;
    await lab.askTls(path, "api.example", get(`/x?k=${placeholder}`, "api.example", `X-Other: ${placeholder}\r\n`));
    const body = `Content-Length: ${placeholder.length}\r\n`;
    await lab.askTls(path, "api.example", `${get("/b", "api.example", body, "POST")}${placeholder}`);
    await send("other.example", "/o");
    const foreign = newPlaceholder();
    await lab.askTls(path, "api.example", get("/f", "api.example", `Authorization: Bearer ${foreign}\r\n`));
    assert.deepEqual(
      reached.map((line) => line.replaceAll(placeholder, "OWN").replace(foreign, "FOREIGN")),
      [
        "api.example GET /x?k=OWN  OWN ",
        "api.example POST /b   OWN",
        "other.example GET /o Bearer OWN  ",
        "api.example GET /f Bearer FOREIGN  ",
      ],
    );
    demandRefused(
      await lab.askTls(path, "api.example", get("/", "api.example", `Authorization: ${placeholder}\r\n`, "TRACE")),
      "request",
      "TRACE",
    );
    demandRefused(await lab.ask(path, get("http://plain.example/", "plain.example", `X: ${placeholder}\r\n`)), "secret", "over http");
    assert.equal(reached.length, 4, "TRACE went out");
    assert.ok(!lab.outside.dialled.some((place) => place.endsWith(" 80")), "http went out");
  },
  control: { kind: "accept", prove: demandArrives },
};

const REDIRECT: StoryRow = {
  id: "egress/redirect-away",
  what: "an allowed host that sends its visitor, with its credentials, to metadata, to a stranger, to plain http and to what no rule names",
  onServer: true,
  async attempt() {
    const { lab: opened, reached, path, placeholder, send } = await bound();
    await using lab = opened;
    const places = ["http://169.254.169.254/latest", "https://other.example/", "http://plain.example/", "https://refused.example/"];
    for (const to of places) assert.match(await send("api.example", `/go?to=${to}`), new RegExp(`^HTTP/1\\.1 302 [^]*Location: ${to}\r\n`));
    assert.deepEqual([...new Set(lab.outside.resolved)], ["api.example"], "the proxy followed by itself");
    const before = reached.length;
    // What a program does then, its credentials along.
    const credentials = `Authorization: Bearer ${placeholder}\r\n`;
    const metadata = get("http://169.254.169.254/latest", "169.254.169.254", credentials);
    demandRefused(await lab.ask(path, metadata), "(?:address|no-rule|secret)", "metadata");
    demandRefused(await lab.ask(path, get("http://plain.example/", "plain.example", credentials)), "secret", "plain http");
    assert.equal(await send("refused.example", "/"), "", "what no rule names");
    await send("other.example", "/");
    demandNever(reached.slice(before), "a stranger got it by a redirect");
    assert.equal(reached.length, before + 1);
  },
  control: {
    kind: "accept",
    async prove() {
      const { lab: opened, reached, send } = await bound();
      await using lab = opened;
      const [, to = ""] = /Location: https:\/\/api\.example(\S+)/.exec(await send("api.example", "/go?to=https://api.example/there")) ?? [];
      await send("api.example", to);
      assert.match(reached.at(-1) ?? "", /^api\.example GET \/there Bearer s3cr3t/);
      assert.equal(lab.verdicts.length, 0, "nothing is told before its second is over");
    },
  },
};

/** What a sandbox holds of a text: variables, files, command lines; and, for root, the memory of its processes. */
async function found(bed: Bed, text: string, prepare: string): Promise<{ readonly said: string; readonly places: readonly string[] }> {
  const network: NetworkPolicy = { allow: [BOUND] };
  await using sandbox = await bed.open({ network });
  const said = await inside(sandbox, ["/bin/sh", "-c", `setsid sleep 1000 >/dev/null 2>&1 & ${prepare}; readlink /proc/self/ns/pid`]);
  const pattern = `${text.slice(0, -1).replaceAll(/[.*+?^$\\[\]/]/g, "\\$&")}[${text.slice(-1)}]`;
  const tree = "/proc/[0-9]*/environ /proc/[0-9]*/cmdline /workspace /tmp /run /home /etc /dev/shm";
  const listed = await inside(sandbox, ["/bin/sh", "-c", `grep -rlas -e '${pattern}' ${tree}`], { anyExit: true });
  const space = /pid:\[\d+\]/.exec(said)?.[0] ?? "";
  const memory = process.getuid?.() === 0 && isInMemory(space, text) ? ["memory"] : [];
  return { said, places: [...listed.split("\n").filter((line) => line !== ""), ...memory] };
}

async function demandCurl(bed: Bed): Promise<void> {
  await using sandbox = await bed.open();
  if ((await inside(sandbox, "command -v curl", { anyExit: true })) === "")
    throw new CorralError("runtime_unavailable", "there is no curl in the sandbox to speak TLS with; install curl");
}

const SEEN: StoryRow = {
  id: "egress/secret-seen",
  what: "look for the value of a secret that was used: variables, files, command lines, memory, headers, a mirrored body, errors, verdicts",
  async attempt(bed) {
    await demandCurl(bed);
    let got = "";
    await bed.net.https("api.example", (request, response) => {
      got = request.headers.authorization ?? "";
      response.setHeader("X-Mirror", got).writeHead(500).end(`you said ${got}`);
    });
    // Whom the program trusts is nothing of this row.
    const ask = `curl -sk -D head.txt -H "Authorization: Bearer $${NAME}" https://api.example/ | tee /tmp/body`;
    const { said, places } = await found(bed, VALUE, `cd /workspace/output; ${ask}; cat head.txt; env`);
    assert.equal(got, `Bearer ${VALUE}`, "the server did not get the value");
    assert.match(said, /you said Bearer corral_\w{40}/);
    assert.match(said, /^x-mirror: Bearer corral_\w{40}/im);
    assert.deepEqual([places, said.includes(VALUE)], [[], false], "the value is inside");
    assert.ok(!JSON.stringify(bed.net.verdicts).includes(VALUE), "a verdict holds the value");
  },
  control: {
    kind: "planted",
    async prove(bed) {
      const planted = "planted-value-0123456789";
      const { places } = await found(
        bed,
        planted,
        `PLANTED=${planted} setsid sleep 1000 >/dev/null 2>&1 & echo ${planted} >/tmp/file; sleep 0.05`,
      );
      const kinds = places.map((place) => /^\/tmp\/file$|environ$|^memory$/.exec(place)?.[0]).filter((kind) => kind !== undefined);
      assert.deepEqual([...new Set(kinds)].toSorted(), ["/tmp/file", "environ", ...(process.getuid?.() === 0 ? ["memory"] : [])]);
    },
  },
};

export const EGRESS_SECRETS: readonly StoryRow[] = [ELSEWHERE, REDIRECT, SEEN];
