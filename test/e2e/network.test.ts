// Egress end to end: real registries under their presets, and a secret that a server gets and a sandbox never holds.

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, vi } from "vitest";
import { isInMemory } from "../../src/attack/memory.ts";
import { createAuthority, LeafMint } from "../../src/egress/certificate.ts";
import { startServerHere } from "../fixtures/server-here.ts";
import { startServiceHere } from "../fixtures/service-here.ts";
import { madeUpDoors } from "../fixtures/egress-process.ts";
import { verifies } from "../verifies.ts";
import { run, scratch } from "./command-line.ts";

const CANARY = "canary-of-egress-7f3a9c51";
const LOCK = {
  name: "app",
  version: "1.0.0",
  lockfileVersion: 3,
  requires: true,
  packages: {
    "": { name: "app", version: "1.0.0", dependencies: { isarray: "2.0.5" } },
    "node_modules/isarray": {
      version: "2.0.5",
      resolved: "https://registry.npmjs.org/isarray/-/isarray-2.0.5.tgz",
      integrity: "sha512-xHjhDr3cNBK0BzdUJSPXZntQUx/mwMS5Rw4A7lPJ90XGAO6ISP/ePDNuo0vhqOZU+UD5JoodwCAAoZQd3FeAKw==",
    },
  },
};

vi.setConfig({ testTimeout: 120_000 });

async function answers(url: string): Promise<boolean> {
  return await fetch(url, { signal: AbortSignal.timeout(10_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
}

verifies(
  "cli/run-network",
  "npm ci and pip install work under their presets, and what was refused is told with what lets it",
  async (context) => {
    if (!(await answers("https://registry.npmjs.org/isarray")) || !(await answers("https://pypi.org/simple/six/")))
      context.skip("no registry answers on this machine");
    using place = scratch();
    const dir = join(place.dir, "app");
    mkdirSync(dir);
    writeFileSync(join(dir, "package.json"), JSON.stringify({ name: "app", version: "1.0.0", dependencies: { isarray: "2.0.5" } }));
    writeFileSync(join(dir, "package-lock.json"), JSON.stringify(LOCK));
    const script =
      "npm ci --no-audit --no-fund --loglevel=error; ls node_modules; env -u PIP_FIND_LINKS python3 -m pip install -q --no-deps --target t six==1.16.0; ls t; curl -sS https://refused.example/";
    const options = ["--policy", "full-access", "--discard", "--net", "npm,pypi"];
    const { stdout, stderr, code } = await run(["run", dir, ...place.data, ...options, "--", "sh", "-c", script]);
    expect(stdout.toString(), stderr).toMatch(/isarray\n[^]*six\.py\n/);
    expect(code).toBe(56);
    expect(stderr).toContain("tried to reach refused.example:443 (curl): no rule; --allow refused.example lets it");
    expect(stderr).not.toMatch(/tried to reach (registry|pypi|files)/);
  },
);

verifies(
  "cli/run-network",
  "without a network, or without the preset, the end of a run says what lets npm reach its registry",
  async () => {
    using place = scratch();
    const dir = join(place.dir, "app");
    mkdirSync(dir);
    writeFileSync(join(dir, "package.json"), JSON.stringify({ name: "app", version: "1.0.0", dependencies: { isarray: "2.0.5" } }));
    writeFileSync(join(dir, "package-lock.json"), JSON.stringify(LOCK));
    const options = [...place.data, "--policy", "full-access", "--discard"];
    const ci = ["npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=0"];
    const runs = [
      run(["run", dir, ...options, "--", "curl", "-sS", "https://registry.npmjs.org/"]),
      run(["run", dir, ...options, "--net", "pypi", "--", ...ci]),
    ];
    const [none, other] = await Promise.all(runs);
    expect(none?.stderr).toContain("this run had no network; --net npm,pypi or --allow HOST gives it one");
    expect(other?.stderr).toMatch(/tried to reach registry\.npmjs\.org:443 \([^)]*\): no rule; --allow registry\.npmjs\.org lets it/);
    const { stderr } = await run(["run", dir, ...place.data, "--discard", "--", "sh", "-c", "echo Could not resolve host >&2; true"]);
    expect(stderr).not.toContain("had no network");
  },
);

verifies(
  "egress/secret-outside",
  "a server gets a secret's value, and no memory, file, variable or log of the sandbox, nor a file of ours, has it",
  async (context) => {
    if (process.getuid?.() !== 0) context.skip("only root reads the memory of a sandbox");
    const dir = mkdtempSync("/tmp/corral-secret-");
    await using parts = new AsyncDisposableStack();
    parts.defer(() => rmSync(dir, { recursive: true, force: true }));
    const authority = createAuthority(Date.now());
    writeFileSync(join(dir, "public.pem"), authority.certificate);
    const { certificate: cert, key } = new LeafMint(authority).leaf("api.example", Date.now());
    const got: string[] = [];
    const upstream = createServer({ cert, key }, (request, response) => {
      got.push(request.headers.authorization ?? "");
      response.end(`you said ${request.headers.authorization ?? ""}`);
    });
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
    parts.defer(() => void upstream.close());
    const { port } = upstream.address() as AddressInfo;
    const service = parts.use(
      await startServiceHere(dir, {
        openDoors: madeUpDoors(join(dir, "public.pem")),
      }),
    );
    const { client } = service;
    const secret = await client.secrets.create({ name: "API_TOKEN", value: CANARY });
    await using sandbox = await client.create({
      network: { allow: [{ host: "api.example", ports: [port], secrets: [{ name: "API_TOKEN" }] }] },
    });
    const ask = `curl -sS -H "Authorization: Bearer $API_TOKEN" https://api.example:${port}/ | tee answer`;
    const { stdout, stderr } = await sandbox.exec({ command: `setsid sleep 1000 > /dev/null 2>&1 & ${ask}; readlink /proc/self/ns/pid` });
    const said = Buffer.from(stdout).toString();
    expect(got, Buffer.from(stderr).toString()).toEqual([`Bearer ${CANARY}`]);
    expect(said).toMatch(/you said Bearer corral_[a-z0-9]{40}/);
    // The control: what the sandbox does hold is found.
    const placeholder = /corral_[a-z0-9]{40}/.exec(said)?.[0] ?? "none";
    expect(isInMemory(/pid:\[\d+\]/.exec(said)?.[0] ?? "", placeholder)).toBe(true);
    expect(isInMemory(/pid:\[\d+\]/.exec(said)?.[0] ?? "", CANARY)).toBe(false);
    const places = "/proc/[0-9]*/environ /proc/[0-9]*/cmdline /workspace /tmp /run /home /etc";
    const { stdout: found } = await sandbox.exec({ command: `grep -rlas '${CANARY.slice(0, -1)}[${CANARY.slice(-1)}]' ${places}` });
    expect(Buffer.from(found).toString()).toBe("");
    await client.secrets.rotate(secret.id, `${CANARY}-2`);
    await sandbox.exec({ command: ask });
    expect(got.at(-1)).toBe(`Bearer ${CANARY}-2`);
    const told = JSON.stringify([await client.events.list(), await client.audit.list(), await sandbox.network.get(), await sandbox.info()]);
    expect(told).not.toContain(CANARY);
    const files = readdirSync(join(dir, "data"), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    for (const { parentPath, name } of files) expect(readFileSync(join(parentPath, name)).includes(CANARY), name).toBe(false);
  },
);

verifies("server/egress-metrics", "what sandboxes were refused and carried is counted, ended ones too", async () => {
  await using server = await startServerHere();
  const sandbox = await server.admin.create({ network: { allow: ["npm"] } });
  await sandbox.exec({ command: "curl -sS https://refused.example/" });
  const refused = async (): Promise<string> => {
    const answer = await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${server.key}` } });
    return /^corral_egress_connections_total\{outcome="refused"\} (\d+)$/m.exec(await answer.text())?.[1] ?? "none";
  };
  expect(await refused()).toBe("1");
  await sandbox.destroy();
  expect(await refused()).toBe("1");
});
