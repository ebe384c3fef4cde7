// A sandbox with a network over its whole life: a server that is killed, a proxy that is killed, pauses, snapshots, forks, the end. One sandbox,
// one upstream, one secret; what the upstream got tells whether the way out and the placeholder still hold.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import type { SandboxHandle } from "../../src/api/client.ts";
import { createAuthority, LeafMint } from "../../src/egress/certificate.ts";
import { egressSockets } from "../../src/sandbox/data-dir.ts";
import { dataOf } from "../faults/remains.ts";
import { madeUpDoors } from "../fixtures/egress-process.ts";
import { type ServiceHere, startServiceHere } from "../fixtures/service-here.ts";
import { verifies } from "../verifies.ts";

const CANARY = "canary-of-a-life-5b1e77d0";
const HOLDER = join(import.meta.dirname, "../fixtures/network-holder.ts");
const SOON = { timeout: 15_000, interval: 20 };
const BUILD_MS = 180_000;
const got: string[] = [];
const place = { dir: "", port: 0, id: "" };
let upstream: Server;
let holder: ChildProcess | undefined;
let service: ServiceHere | undefined;

beforeAll(async () => {
  guestProgram();
  place.dir = mkdtempSync("/tmp/corral-life-");
  const authority = createAuthority(Date.now());
  writeFileSync(join(place.dir, "public.pem"), authority.certificate);
  const { certificate: cert, key } = new LeafMint(authority).leaf("api.example", Date.now());
  upstream = createServer({ cert, key }, (request, response) => {
    got.push(request.headers.authorization ?? "");
    response.end(`you said ${request.headers.authorization ?? ""}`);
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  place.port = (upstream.address() as AddressInfo).port;
}, BUILD_MS);

afterAll(async () => {
  await service?.[Symbol.asyncDispose]();
  if (holder?.exitCode === null && holder.signalCode === null) process.kill(-(holder.pid ?? 0), "SIGKILL");
  upstream.close();
  rmSync(place.dir, { recursive: true, force: true });
});

function here(): ServiceHere {
  if (service === undefined) throw new Error("the test before made none");
  return service;
}

/** Whether the upstream got the value, and the sandbox its placeholder back. */
async function reaches(sandbox: SandboxHandle): Promise<boolean> {
  const before = got.length;
  const { stdout } = await sandbox.exec({ command: `curl -sS -H "Authorization: Bearer $API_TOKEN" https://api.example:${place.port}/` });
  return (
    got.length === before + 1 && got.at(-1) === `Bearer ${CANARY}` && Buffer.from(stdout).toString().startsWith("you said Bearer corral_")
  );
}

/** Processes of the egress proxy that a process started. */
function proxiesOf(parent: number): readonly number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      const isProxy = readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("egress-worker.ts");
      return isProxy && readFileSync(`/proc/${pid}/status`, "latin1").includes(`\nPPid:\t${parent}\n`);
    } catch {
      return false; // it ended
    }
  });
}

function doorsLeft(): readonly string[] {
  const sockets = egressSockets(dataOf(join(place.dir, "data")));
  return existsSync(sockets) ? readdirSync(sockets) : [];
}

verifies(
  "egress/lives-on",
  "after kill -9 of its server the next one goes on with a sandbox's network, its rules and its placeholders",
  async (context) => {
    if (process.geteuid?.() !== 0) context.skip("a server that is killed is taken over as root alone here");
    const words = [HOLDER, place.dir, join(place.dir, "public.pem"), String(place.port), CANARY];
    holder = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"], detached: true });
    const exit = once(holder, "exit");
    if (holder.stdout === null) throw new Error("the holder has no stdout");
    const [line] = (await Promise.race([once(createInterface(holder.stdout), "line"), exit.then(() => ["{}"])])) as [string];
    const { id, said } = JSON.parse(line) as { id?: string; said?: string };
    expect(said).toMatch(/^you said Bearer corral_/);
    place.id = id ?? "";
    const [proxy] = proxiesOf(holder.pid ?? 0);
    process.kill(-(holder.pid ?? 0), "SIGKILL");
    await exit;
    await expect.poll(() => existsSync(`/proc/${proxy}`), SOON).toBe(false);
    service = await startServiceHere(place.dir, { lasting: true, openDoors: madeUpDoors(join(place.dir, "public.pem")) });
    expect(await reaches(service.client.sandbox(place.id))).toBe(true);
  },
);

verifies(
  "egress/lives-on",
  "a proxy that is killed is started anew: the sandbox's next connections work, and nothing that was counted is lost",
  async (context) => {
    if (service === undefined) context.skip("the test before made none");
    const { client, networks } = here();
    const sandbox = client.sandbox(place.id);
    const before = await networks.doors.totals();
    expect(before.connections).toBeGreaterThan(0);
    const [proxy = 0] = proxiesOf(process.pid);
    process.kill(proxy, "SIGKILL");
    await expect.poll(() => reaches(sandbox), SOON).toBe(true);
    expect(proxiesOf(process.pid)).not.toContain(proxy);
    const after = await networks.doors.totals();
    expect(after.connections).toBeGreaterThan(before.connections);
    expect(after.receivedBytes).toBeGreaterThan(before.receivedBytes);
  },
);

verifies("egress/lives-on", "a network holds over both kinds of pause, and what is restored or forked begins with it", async (context) => {
  if (service === undefined) context.skip("the test before made none");
  const { client } = here();
  const sandbox = client.sandbox(place.id);
  for (const memory of [true, false]) {
    await sandbox.pause({ memory });
    expect(await reaches(sandbox), `paused with memory ${memory}`).toBe(true);
  }
  const snapshot = await sandbox.snapshot();
  const placeholder = (await sandbox.network.get()).placeholders["API_TOKEN"];
  await sandbox.restore(snapshot.id);
  expect(await reaches(sandbox), "restored").toBe(true);
  const [fork] = await sandbox.fork();
  if (fork === undefined || fork instanceof Error) throw new Error("no fork");
  const made = await client.create({ snapshot: snapshot.id });
  for (const other of [fork, made]) {
    expect(await reaches(other)).toBe(true);
    expect((await other.network.get()).placeholders["API_TOKEN"]).not.toBe(placeholder);
    await other.destroy();
  }
  const closed = await client.create({ snapshot: snapshot.id, network: "none" });
  expect(await reaches(closed), "asked for without").toBe(false);
  await closed.destroy();
});

verifies("egress/lives-on", "what is destroyed leaves no socket, and a server that ends no process and no directory", async (context) => {
  if (service === undefined) context.skip("the test before made none");
  expect(doorsLeft()).toEqual([place.id]);
  await here().client.sandbox(place.id).destroy();
  expect(doorsLeft()).toEqual([]);
  await here()[Symbol.asyncDispose]();
  service = undefined;
  expect(proxiesOf(process.pid)).toEqual([]);
  expect(existsSync(egressSockets(dataOf(join(place.dir, "data"))))).toBe(false);
});
