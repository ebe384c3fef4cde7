// The proxy as a process of its own: what it may do, what it is told, and what happens when it dies.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { rest, until } from "../attack/egress-lab.ts";
import { startEgressWorker } from "../../test/fixtures/egress-process.ts";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import type { HostRule, NetworkVerdict } from "../api/network.ts";
import { CONFINED_ID } from "../runtime/confined-node.ts";
import { createAuthority } from "./certificate.ts";
import { EgressProxy, type SandboxNetwork } from "./proxy.ts";
import { newPlaceholder } from "./secrets.ts";

const isRoot = process.getuid?.() === 0;
const CANARY = "canary-of-this-test-0123456789";
const verdicts: NetworkVerdict[] = [];
const lost: string[] = [];
let dir: string;
let proxy: EgressProxy;
let echo: Server;
let port: number;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "egress-process-"));
  mkdirSync(join(dir, "s"));
  proxy = proxyOver(join(dir, "s"));
  echo = createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => socket.destroy()).pipe(socket));
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
  ({ port } = echo.address() as AddressInfo);
});

function proxyOver(socketsDir: string): EgressProxy {
  return new EgressProxy({
    socketsDir,
    authority: createAuthority(Date.now()),
    start: startEgressWorker,
    ...(isRoot ? { id: CONFINED_ID } : {}),
    onVerdict: (verdict) => void verdicts.push(verdict),
    onLost: (said) => void lost.push(said),
  });
}

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  echo.close();
  rmSync(dir, { recursive: true, force: true });
});

function network(version = 1, ...hosts: string[]): SandboxNetwork {
  const allow: HostRule[] = hosts.map((host) => ({ host, ports: [port], tls: false }));
  const secrets = [{ name: "KEY", placeholder: newPlaceholder(), value: CANARY }];
  return { version, policy: { allow }, ceiling: { open: true }, secrets };
}

async function talk(socket: string, host: string): Promise<string> {
  const client = connect({ path: socket, allowHalfOpen: true });
  client.on("error", () => client.destroy());
  client.end(`name ${host} ${port} -\nhello`);
  return await rest(client);
}

verifies("egress/process", "the proxy's process has no environment, no rights, no file of ours and no child", async () => {
  const { socket, dir: own } = await proxy.open("sb-one", network(1, "one.example", "code.example", "files.example", "child.example"));
  expect(await talk(socket, "one.example")).toBe("hello");
  const can = [await talk(socket, "code.example"), await talk(socket, "files.example"), await talk(socket, "child.example")];
  expect(can, "reads its own code, no file of the machine, and starts nothing").toEqual(["hello", "", ""]);
  const pid = await proxy.pid();
  const proc = (name: string): string => readFileSync(`/proc/${pid}/${name}`, "utf8");
  expect(proc("environ")).toBe("");
  expect(proc("cmdline")).not.toContain(CANARY);
  const status = proc("status");
  expect(status).toMatch(/NoNewPrivs:\s1\n/);
  if (!isRoot) return;
  expect(status).toMatch(new RegExp(`Uid:\\s${CONFINED_ID}\\s${CONFINED_ID}\\s${CONFINED_ID}\\s`));
  expect(status).toMatch(/Groups:\s*\n/);
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) expect(status).toMatch(new RegExp(`${set}:\\s0+\\n`));
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe(join(dir, "s"));
  expect(statSync(join(dir, "s")).uid, "it can exchange no sandbox's directory").toBe(0);
  expect(statSync(own).mode & 0o777).toBe(0o711);
  expect(statSync(socket).mode & 0o777).toBe(0o666);
});

verifies("egress/process", "a policy that cannot be, or lacks its secret, is refused before the process hears of it", async () => {
  const refused = async (policy: SandboxNetwork["policy"], secrets: SandboxNetwork["secrets"] = []): Promise<unknown> =>
    errorCode(await proxy.open("sb-wrong", { version: 1, policy, ceiling: { open: true }, secrets }).catch((error: unknown) => error));
  expect(await refused({ allow: [{ host: "10.0.0.1" }] })).toBe("network_policy_invalid");
  expect(await refused({ allow: [{ host: "a.example", secrets: [{ name: "KEY" }] }] })).toBe("network_policy_invalid");
  expect(await refused("none", [{ name: "KEY", placeholder: newPlaceholder(), value: "short" }])).toBe("request_invalid");
});

verifies("egress/process", "when the process dies all is refused, and the next one knows what held", async () => {
  const { socket } = await proxy.open("sb-two", network(1, "two.example"));
  await proxy.update("sb-two", network(2, "three.example"));
  expect([await talk(socket, "two.example"), await talk(socket, "three.example")]).toEqual(["", "hello"]);
  const tunnel = connect({ path: socket, allowHalfOpen: true });
  tunnel.on("error", () => tunnel.destroy());
  tunnel.write(`name three.example ${port} -\nhello`);
  await until(tunnel, "hello");
  const figures = async () => (await proxy.metrics()).find(({ id }) => id === "sb-two");
  const before = await figures();
  expect(before?.connections).toBe(3);
  const pid = (await proxy.pid()) ?? 0;
  process.kill(pid, "SIGKILL");
  expect(await rest(tunnel)).toBe("");
  while (lost.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await talk(socket, "three.example"), "nobody listens").toBe("");
  expect(await proxy.pid()).not.toBe(pid);
  expect([await talk(socket, "two.example"), await talk(socket, "three.example")]).toEqual(["", "hello"]);
  expect((await proxy.metrics()).map(({ id }) => id).toSorted()).toEqual(["sb-one", "sb-two"]);
  expect(await figures(), "what was counted before stands").toMatchObject({
    connections: 5,
    receivedBytes: (before?.receivedBytes ?? 0) + 5,
  });
});

verifies(
  "egress/process",
  "verdicts come out with the sandbox and the version, and hold no secret; a closed sandbox leaves nothing",
  async () => {
    const isTold = (): boolean =>
      verdicts.some(({ sandboxId, version, host }) => sandboxId === "sb-two" && version === 2 && host === "three.example");
    while (!isTold()) await new Promise((resolve) => setTimeout(resolve, 20));
    await proxy.close("sb-two");
    expect(() => statSync(join(dir, "s", "sb-two"))).toThrow("ENOENT");
    expect(JSON.stringify(verdicts)).not.toContain(CANARY);
    expect(verdicts.every(({ at }) => !Number.isNaN(Date.parse(at)))).toBe(true);
  },
);

verifies("egress/process", "its directory of sockets comes with the first sandbox and goes with the last", async () => {
  const sockets = join(dir, "own");
  const own = proxyOver(sockets);
  expect(existsSync(sockets)).toBe(false);
  await own.open("sbone", network());
  await own.open("sbtwo", network());
  await own.close("sbone");
  expect(readdirSync(sockets)).toEqual(["sbtwo"]);
  await own.close("sbtwo");
  await own[Symbol.asyncDispose]();
  expect(existsSync(sockets)).toBe(false);
});
