// Connections to ports inside a sandbox, against real programs that listen there.

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { removeTree } from "../../test/fixtures/remove-tree.ts";
import { verifies } from "../../test/verifies.ts";
import type { Corral } from "../api/corral.ts";
import { errorCode } from "../api/errors.ts";
import type { Process, Sandbox } from "../api/sandbox.ts";
import { openLocalCorral } from "./corral.ts";

let dir = "";
let corral: Corral;
let sandbox: Sandbox;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "corral-dial-"));
  corral = await openLocalCorral({ dataDir: dir, guestFile: guestProgram(), env: process.env, uid: process.getuid?.() ?? 0 });
  sandbox = await corral.create({ policy: { rules: [{ pattern: "**", permission: "write" }] } });
});
afterAll(async () => {
  await corral[Symbol.asyncDispose]();
  removeTree(dir);
});

/** Runs a program of Node.js inside, until it said that it listens. */
async function listen(body: string, where = sandbox): Promise<Process> {
  const ready = Promise.withResolvers<void>();
  const program = `const net = require("node:net"); const server = net.createServer({ allowHalfOpen: true }, (socket) => { ${body} }); server.listen(+process.argv[1], process.argv[2] ?? "127.0.0.1", () => console.log("up"));`;
  const process = await where.start({
    command: ["node", "-e", program, "4000"],
    onStdout: () => ready.resolve(),
    onStderr: (text) => ready.reject(new Error(Buffer.from(text).toString())),
  });
  await ready.promise;
  return process;
}

async function stop(process: Process): Promise<void> {
  process.signal("SIGKILL");
  await process.result;
}

async function duplex(port = 4000): Promise<Duplex> {
  return Duplex.fromWeb(await sandbox.connect(port));
}

verifies("sandbox/port-connect", "bytes pass both ways to a port inside, whole, and each direction ends by itself", async () => {
  const server = await listen(
    "const parts = []; socket.on('data', (part) => parts.push(part)); socket.on('end', () => socket.end(Buffer.concat(parts)));",
  );
  const sent = Buffer.alloc(3_000_000, "0123456789");
  const all = await Promise.all(
    [1, 2, 3].map(async () => {
      const socket = await duplex();
      socket.end(sent);
      return (await buffer(socket)).equals(sent);
    }),
  );
  expect(all).toEqual([true, true, true]);
  await stop(server);
});

verifies("sandbox/port-closed", "a port on which nothing listens is told by its code, and so is the sandbox's end", async () => {
  const refused = await sandbox.connect(4999);
  expect(
    await refused.readable
      .getReader()
      .read()
      .then(() => "passed", errorCode),
  ).toBe("port_closed");
  for (const port of [0, -1, 65_536, 1.5]) expect(await sandbox.connect(port).then(() => "passed", errorCode)).toBe("request_invalid");
  const other = await corral.create({ policy: { rules: [{ pattern: "**", permission: "write" }] } });
  await listen("socket.resume()", other);
  const reading = (await other.connect(4000)).readable
    .getReader()
    .read()
    .then(() => "passed", errorCode);
  await other.destroy();
  expect(await reading).toBe("sandbox_lost");
  expect(await other.connect(4000).then(() => "passed", errorCode)).toBe("sandbox_not_found");
});

verifies(
  "sandbox/port-slow-reader",
  "a reader that takes nothing stops the program, and one that leaves closes its connection",
  async () => {
    let sent = 0;
    const server = await sandbox.start({
      command: [
        "node",
        "-e",
        `const net = require("node:net"); let sent = 0;
       net.createServer((socket) => {
         const more = () => { while (socket.write(Buffer.alloc(65536))) sent += 65536; };
         socket.on("drain", more).on("close", () => { console.log("closed"); process.exit(0); }).on("error", () => {});
         more(); setInterval(() => console.log(sent), 50);
       }).listen(4001, "127.0.0.1", () => console.log("up"));`,
      ],
      onStdout: (text) => {
        sent = Number(Buffer.from(text).toString().trim().split("\n").at(-1)) || sent;
      },
    });
    await expect.poll(() => sandbox.exec({ command: "true" }).then(({ exitCode }) => exitCode)).toBe(0);
    const connection = await connectWhenUp(4001);
    await expect.poll(() => sent).toBeGreaterThan(0);
    let last = -1;
    await expect.poll(() => last === (last = sent), { interval: 500 }).toBe(true);
    expect(sent).toBeLessThan(16 * 1024 ** 2);
    await connection.readable.cancel();
    expect((await server.result).exitCode).toBe(0);
  },
);

it("reaches a program that listens on IPv6 alone", async () => {
  const six = await sandbox.start({ command: ["node", "-e", `require("node:net").createServer((s) => s.end("six")).listen(4002, "::1")`] });
  const socket = Duplex.fromWeb(await connectWhenUp(4002));
  expect((await buffer(socket)).toString()).toBe("six");
  await stop(six);
});

/** The first connection that is not refused. */
async function connectWhenUp(port: number): Promise<Awaited<ReturnType<Sandbox["connect"]>>> {
  for (;;) {
    const probe = await sandbox.exec({ command: `grep -qi ':${port.toString(16).padStart(4, "0")} .* 0A ' /proc/net/tcp /proc/net/tcp6` });
    if (probe.exitCode === 0) return await sandbox.connect(port);
  }
}
